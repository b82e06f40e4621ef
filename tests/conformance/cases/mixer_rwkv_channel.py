"""Channel mixing of RWKV-4: the usual inner width, an odd one."""

CASES = [{"kind": "rwkv_channel"}, {"kind": "rwkv_channel", "hidden": 37}]
