"""DynamoDB, the target: requests, their faults and rates, and the table."""
