"""One inference request, from its bytes to the engine's work, and from the engine's arrays to the bytes of an answer.

    body -> json_request, binary_request (the protocol) -> request_record -> infer_check (the model) with
                                                             input_check, value_check
    engine's arrays -> answer_form -> infer_answer -> JSON, binary tensors, or both

Rules of this folder: every refusal names field, expected and found; whatever is wrong never reaches the runtime.
"""
