"""The same over HTTP, for apps in any language and for people: the gateway, its live balances, the console.

`create_app` makes the ASGI app; `credits gateway` serves it.
"""
