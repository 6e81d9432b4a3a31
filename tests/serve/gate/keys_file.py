"""A file of keys, as tests write one."""


def write_keys(tmp_path, text, mode=0o600):
    path = tmp_path / "keys"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return str(path)
