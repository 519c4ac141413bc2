"""What a workflow's file says of its schedule.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#onschedule
"""

from __future__ import annotations

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

_FIELDS = 5


def crons(text: str) -> tuple[str, ...]:
    """The cron lines below `on: schedule:`, in order; empty where there are none."""
    try:
        # Nodes and no values: YAML 1.1 would take the key `on` for true.
        workflow = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return ()
    schedule = _below(_below(workflow, "on"), "schedule")
    listed = schedule.value if isinstance(schedule, SequenceNode) else []
    found = [_below(each, "cron") for each in listed]
    lines = [each.value.split() for each in found if isinstance(each, ScalarNode)]
    return tuple(" ".join(fields) for fields in lines if len(fields) == _FIELDS)


def _below(node: Node | None, name: str) -> Node | None:
    """What a mapping has under a key; None where there is no such key."""
    for key, value in node.value if isinstance(node, MappingNode) else ():
        if isinstance(key, ScalarNode) and key.value == name:
            found: Node = value
            return found
    return None
