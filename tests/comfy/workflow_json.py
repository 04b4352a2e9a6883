"""The front end's workflow format, for the tests."""

from scripts.comfy_queue.workflow_json import NOT_SENT, to_graph

__all__ = ["NOT_SENT", "to_graph"]
