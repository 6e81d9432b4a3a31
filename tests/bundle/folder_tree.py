"""What lies in a folder, to be compared with what lay there before."""


def tree(path):
    """Everything under a folder, with bytes, so that "unchanged" means unchanged."""
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None for p in path.rglob("*")}
