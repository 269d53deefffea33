"""The control plane: `/api/v1/admin`. One module per resource; each exports `router`, which `web/admin/registry.py` lists.

The conventions of every module here:

- **A module** is `router: Final = Router(path="/", route_handlers=[...], tags=["scripts"])` with paths like `/apps/{app:str}/triggers` and `/scripts:check`.
  The registry adds the prefix, the guard that authenticates, the body decoder and the dependency.
- **A handler** is `async def create_script(call: Call, data: JSONBody[CreateScript]) -> Response[...]`, with `Call` from `web.admin.call` and `JSONBody` from
  `litestar.params`. `call.core` has `reader`, `log` (history), `sandbox`, `directory`, `clock`, `settings`; `call.principal` was checked in the database for
  this request.
- **What it needs** of its caller stands in its decorator, `opt=needs(Capability.KV_READ)`, or `CREDENTIAL` or `NO_CREDENTIAL` (`web.admin.needs`); a route
  without a declaration fails. Capabilities of the instance are asked for before the handler runs.
- **Apps in paths**: `app = await call.app(reference)` finds by id or slug and asks for what is needed there; unknown and invisible are the same 404, and
  an old slug is 308 (404 `app_renamed` outside the path). Where the app follows from something else: `call.require(app_id)`, and turn its NotFound into the
  one that a missing thing gets. Authorise before telling anything, also about conflicts.
- **Ids in paths** are `str`: `id_segment(script, "script")` (404 for what cannot be an id). Any other text: `segment(key, "key")`, which undoes the
  percent-encoding; the path that Litestar sees is still encoded, so `%2F` stays inside its segment.
- **Bodies** are frozen msgspec Structs with `forbid_unknown_fields=True`, named `data` in the handler. `web.bodies` decodes them strictly: 400 `malformed` when
  it is not JSON, 422 `invalid` with `field` as JSON path (`$.limits.memory_mib`) for another shape; NUL, lone surrogates and depth over 64 are refused already.
  For merge patches give fields `T | msgspec.UnsetType = msgspec.UNSET`.
- **The OpenAPI document** is made of all this (`web.openapi`): a handler's name is the operation's id for ever, the first sentence of its docstring the
  summary, its declarations tell statuses and needs. What they do not tell is added by `opt=needs(...) | documented(...)` (`web.documented`); what parameters
  hold is told once for each name, in `web.openapi.parameters`. Query parameters that a route does not read are refused before its handler.
- **Query parameters** are `str | None = None`, read by `domain.cursors` (`parse_limit`, `decode`, `parse_position`, `parse_time`, `parse_at`): 422 with
  `field`.
- **Lists** are `Page[T]` from `web.pages`: ask for `limit + 1` rows and `page(rows, limit, cursor_of)` makes `{items, next_cursor}`.
- **Writes** go through the services of `runtime.admin` in the name of `call.acting`, which also carries what gives its author the right: in the instance's log
  whoever has lost it meanwhile is refused (409 `authority_changed`). Each hangs on `Core` (a property in `web/core.py`), so that handlers stay
  a translation.
- **Errors** are raised, never returned: any `domain.errors` class; `web.problems` gives the status. Extra keyword arguments become members of the problem
  document.
- **Answers**: Structs as they are (POST 201 by default, say `status_code=200` for calls that create nothing, 204 for DELETE with `-> None`).
"""
