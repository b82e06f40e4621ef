"""Time mixing of RWKV-4: as wide as the model, narrower, wider."""

CASES = [{"kind": "rwkv_time"}, {"kind": "rwkv_time", "width": 19}, {"kind": "rwkv_time", "width": 40}]
