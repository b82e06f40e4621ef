"""The data pipeline: documents in, clean documents and token shards out, every document accounted for.

Work is cut into units that depend on the input alone. A unit is done by any process and its result appears by one
rename, so that workers, engines, kills and resumes change nothing in the bytes that come out.
"""
