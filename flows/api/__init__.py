"""The HTTP service over both stores.

Modules in the order in which a request passes them:

- ``server``: refuses unsafe settings, binds, runs uvicorn, ends in time
- ``connections``: limits their number, and how long a client may keep one waiting
- ``app``: assembles the service
- ``middleware``: request ids, the log, hosts and tokens
- ``bodies``: limits the size of a body, and what its JSON may hold
- ``turns``: limits how many requests use the store at once
- ``routes``, ``schemas``: requests and their answers
- ``cursors``, ``names``: the rules for pages and names
- ``store``: the interface of a store; ``postgres_store``, ``dynamodb_store``
- ``rows``, ``items``: what each store holds, as enterprises
- ``silence``: limits how long a request waits for PostgreSQL
- ``problems``: errors as problem details (RFC 9457)
- ``log_limit``: limits how many refused requests are logged
- ``docs``: the page that shows the OpenAPI document
"""
