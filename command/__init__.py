"""The command line: the only place that knows model, export, bundle and serve alike.

Files: `entry` (from arguments to an exit status), `parser`, `options` and those beside it (what can be asked, light: no
torch, no onnxruntime, no rich), one `…_command` for each command (what is done; loaded only when it is asked for), and
what they share: `terminal`, `report_text`, `source_options`, `extras`, `errors`.
"""
