"""The OpenAPI document, made from the routes as they are registered: nobody writes down twice what a handler's signature and declarations tell.

`handlers` reads the facts of each operation, `parameters` knows what parameters of each name hold, `answers` which statuses an operation can have, `schemas`
has msgspec describe the Structs, `data_plane` adds what is no handler, and `document` puts it together.
"""
