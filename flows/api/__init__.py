"""The HTTP service over both stores.

In the order in which a request passes:

- ``server``: binds, refuses what is unsafe, runs uvicorn
- ``app``: puts the service together
- ``gates``: request ids, the log, hosts and tokens
- ``bodies``: how much of a body is read, and what JSON may hold
- ``routes``, ``schemas``: what is asked and answered
- ``cursors``, ``names``: the rules for pages and names
- ``store``: what the routes need of a store; ``postgres_store``, ``dynamodb_store``
- ``problems``: whatever went wrong, as RFC 9457 has it
- ``docs``: the page that shows the OpenAPI document
"""
