"""The stores: PostgreSQL, DynamoDB, and both embedded for demo and tests."""
