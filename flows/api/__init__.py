"""The HTTP service over both stores.

In the order in which a request passes:

- ``server``: binds, refuses what is unsafe, runs uvicorn, ends in time
- ``connections``: how many there are, and how long a client may keep one waiting
- ``app``: puts the service together
- ``middleware``: request ids, the log, hosts and tokens
- ``bodies``: how much of a body is read, and what JSON may hold
- ``turns``: how many requests ask the store at once
- ``routes``, ``schemas``: what is asked and answered
- ``cursors``, ``names``: the rules for pages and names
- ``store``: what the routes need of a store; ``postgres_store``, ``dynamodb_store``
- ``silence``: how long PostgreSQL is waited for
- ``problems``: whatever went wrong, as RFC 9457 has it
- ``log_limit``: how much of what is refused is logged
- ``docs``: the page that shows the OpenAPI document
"""
