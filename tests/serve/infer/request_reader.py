"""A reader of requests with small limits, and the head of a tensor that it takes."""

from cellgate.serve.infer.infer_request import RequestReader
from cellgate.serve.settings import Settings

LIMITS = Settings(max_batch_rows=8, max_steps=64, max_row_steps=256, max_answer_elements=2000).limits


def make_reader(served_models, name="steps", clock=lambda: 100.0):
    return RequestReader(served_models[name], LIMITS, clock)


HEAD = {"name": "x", "shape": [1, 2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
