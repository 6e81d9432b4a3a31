"""How large a request may be once it is parsed.

Rules of this file: a record without defaults, which are the settings'; what is checked against it, and where, is
`input_check`'s and `json_size`'s.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestLimits:
    """How large a request may be once it is parsed.

    Attributes:
        max_batch_rows: B, rows of a request.
        max_steps: T, steps of the longest row.
        max_row_steps: B * T, which bounds what the runtime takes for intermediate values.
        max_answer_elements: elements of all requested outputs together, and of a state that the answer carries.
        max_json_elements: values, arrays and objects of the JSON.
    """

    max_batch_rows: int
    max_steps: int
    max_row_steps: int
    max_answer_elements: int
    max_json_elements: int
