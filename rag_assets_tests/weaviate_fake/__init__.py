"""A Weaviate server for tests, as the client's own wire format sees one: REST for schemas and aliases, gRPC for objects.

It stores, searches exactly, echoes schemas with every default a server states, and can be told to fail.
"""

from rag_assets_tests.weaviate_fake.server import FakeWeaviate

__all__ = ["FakeWeaviate"]
