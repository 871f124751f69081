"""Writes activity.json: expert counts of token-level traces, and the distinct experts of batches drawn from them.

    make_activity.py TRACES.safetensors > activity.json

The traces are uint8 tensors [tokens, layers, top_k] of expert ids, one per text domain, of a small model with 32 experts. A batch
is a set of tokens of all domains, drawn without replacement, as in a decode step whose tokens belong to different sequences. Needs numpy.
"""
import json
import struct
import sys

import numpy

EXPERTS, DRAWS = 32, 400

with open(sys.argv[1], "rb") as file:
    size = struct.unpack("<Q", file.read(8))[0]
    header = json.loads(file.read(size))
    data = file.read()
traces = [numpy.frombuffer(data, numpy.uint8, count=numpy.prod(entry["shape"]),
                           offset=entry["data_offsets"][0]).reshape(entry["shape"])
          for name, entry in sorted(header.items()) if name != "__metadata__"]
ids = numpy.concatenate(traces)
tokens, layers, top_k = ids.shape
active = numpy.zeros((tokens, layers, EXPERTS), bool)
for k in range(top_k):
    active[numpy.arange(tokens)[:, None], numpy.arange(layers)[None], ids[:, :, k]] = True
random = numpy.random.default_rng(1)
batches = []
for batch in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
    drawn = [active[random.choice(tokens, batch, replace=False)].any(0).sum(1).mean() for _ in range(DRAWS)]
    batches.append({"batch": batch, "distinct": round(float(numpy.mean(drawn)), 4)})
json.dump({"tokens": tokens, "top_k": top_k, "logical_count": active.sum(0).tolist(), "batches": batches}, sys.stdout)
print()
