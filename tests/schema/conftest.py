"""The shops of the answers' tests."""

from tests.resolvers.conftest import batches_template, batches_url

__all__ = ["batches_template", "batches_url"]
