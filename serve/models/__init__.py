"""The models that a server has.

Found in folders (repository), opened and proved (served_model), looked up by name and version (model_table), and what
is said about them (metadata, model_config, repository_index, verification_state).
"""
