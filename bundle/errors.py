"""What can be wrong with a bundle, one class a situation. Messages name the thing, expected, found, and the remedy."""


class BundleError(ValueError):
    """A bundle, or a file that should be one, cannot be used. Never raised itself."""


class NotABundleError(BundleError):
    """The path is missing, cannot be read, is not a folder, or has no manifest."""


class BundleExistsError(BundleError):
    """The place to write to is taken, and nobody asked to overwrite it."""


class ManifestError(BundleError):
    """The manifest is not JSON, too large, of an unknown version, or a field is missing or has the wrong form."""


class DigestError(BundleError):
    """A file that the manifest lists is missing, or its size or sha-256 is not the manifest's."""


class StrayFileError(BundleError):
    """The folder holds what the manifest does not list, or what is no plain file of its own: link, folder, pipe."""


class GraphError(BundleError):
    """The ONNX bytes hold what serving refuses: a foreign domain, an unlisted operator, external data, a function."""


class GoldenError(BundleError):
    """The golden cases do not fit the graph signature."""


class VerificationError(BundleError):
    """A record of a later check beside the bundle is not what write_verification writes."""
