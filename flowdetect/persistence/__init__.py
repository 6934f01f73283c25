"""Model files that are safe to load: `save`, `load`, `open_model`, `read_manifest`, `verify`."""

from flowdetect.persistence._files import FORMAT_VERSION, Model, load, open_model, read_manifest, save, verify

__all__ = ["FORMAT_VERSION", "Model", "load", "open_model", "read_manifest", "save", "verify"]
