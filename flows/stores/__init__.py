"""The stores: PostgreSQL, DynamoDB, its fast request path, and both embedded."""
