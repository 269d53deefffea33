"""Live projections as server-sent events: `/realtime/topics/{topic}`, `/realtime/kv/{collection}`, `/realtime/docs/{collection}`.

Plain ASGI beside the data plane: a stream lives for hours, and there may be thousands. What they show is in `runtime.live`.
"""
