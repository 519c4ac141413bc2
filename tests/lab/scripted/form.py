"""The `query` and `ec2` protocols: a form with dotted names in, XML out.

https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
https://smithy.io/2.0/aws/protocols/aws-ec2-query-protocol.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from tests.lab.scripted.scalars import WireFault, from_text, to_text

Tree = dict[str, Any]  # names to trees; the text of a leaf stands under ""


def tree_of(pairs: Mapping[str, str]) -> Tree:
    """{"Tags.Tag.1.Key": "a"} as {"Tags": {"Tag": {"1": {"Key": {"": "a"}}}}}."""
    tree: Tree = {}
    for name, text in pairs.items():
        branch = tree
        for part in name.split("."):
            branch = branch.setdefault(part, {})
        branch[""] = text
    return tree


def read(tree: Tree, shape: Any, ec2: bool) -> Any:
    """The value of a shape; whatever stays unread in the tree is a fault."""
    value: Any
    if shape.type_name == "structure":
        value = {}
        for name, member in shape.members.items():
            key = _request_name(name, member, ec2)
            if key in tree:
                value[name] = read(tree.pop(key), member, ec2)
    elif shape.type_name == "list":
        value = _read_list(tree, shape, ec2)
    elif shape.type_name == "map":
        value = _read_map(tree, shape, ec2)
    else:
        value = from_text(tree.pop("", None), shape)
    if tree:
        raise WireFault(f"{shape.name}: unknown {sorted(tree)}")
    return value


def _request_name(name: str, member: Any, ec2: bool) -> str:
    serialization = member.serialization
    if ec2:
        if "queryName" in serialization:
            return str(serialization["queryName"])
        given = str(serialization.get("name", name))
        # "A locationName is always capitalized on input": what botocore's serializer says.
        return given[0].upper() + given[1:] if "name" in serialization else given
    if member.type_name == "list" and serialization.get("flattened"):
        return str(member.member.serialization.get("name", serialization.get("name", name)))
    return str(serialization.get("name", name))


def _read_list(tree: Tree, shape: Any, ec2: bool) -> list[Any]:
    if set(tree) == {""} and tree[""] == "":
        del tree[""]
        return []  # how the query protocol writes an empty list
    entries = tree
    if not ec2 and not shape.serialization.get("flattened"):
        entries = tree.pop(shape.member.serialization.get("name", "member"), {})
    numbers = [str(number) for number in range(1, len(entries) + 1)]
    if sorted(entries) != sorted(numbers):
        raise WireFault(f"{shape.name}: entries numbered {sorted(entries)}")
    return [read(entries.pop(number), shape.member, ec2) for number in numbers]


def _read_map(tree: Tree, shape: Any, ec2: bool) -> dict[str, Any]:
    entries = tree if shape.serialization.get("flattened") else tree.pop("entry", {})
    value = {}
    for number in sorted(entries, key=int):
        entry = entries.pop(number)
        key = read(entry.pop(shape.key.serialization.get("name", "key")), shape.key, ec2)
        name = shape.value.serialization.get("name", "value")
        value[key] = read(entry.pop(name), shape.value, ec2)
        if entry:
            raise WireFault(f"{shape.name}: unknown {sorted(entry)}")
    return value


def document(
    operation: str,
    output: Mapping[str, Any],
    shape: Any,
    namespace: str,
    request_id: str,
    protocol: str,
) -> bytes:
    root = ElementTree.Element(f"{operation}Response", {"xmlns": namespace})
    if shape is not None:
        wrapper = shape.serialization.get("resultWrapper")
        _write_members(ElementTree.SubElement(root, wrapper) if wrapper else root, output, shape)
    if protocol == "ec2":
        ElementTree.SubElement(root, "requestId").text = request_id
    else:
        metadata = ElementTree.SubElement(root, "ResponseMetadata")
        ElementTree.SubElement(metadata, "RequestId").text = request_id
    return _bytes(root)


def refusal(code: str, message: str, status: int, request_id: str, protocol: str) -> bytes:
    if protocol == "ec2":
        root = ElementTree.Element("Response")
        error = ElementTree.SubElement(ElementTree.SubElement(root, "Errors"), "Error")
    else:
        root = ElementTree.Element("ErrorResponse")
        error = ElementTree.SubElement(root, "Error")
        ElementTree.SubElement(error, "Type").text = "Sender" if status < 500 else "Receiver"
    ElementTree.SubElement(error, "Code").text = code
    ElementTree.SubElement(error, "Message").text = message
    last = "RequestID" if protocol == "ec2" else "RequestId"
    ElementTree.SubElement(root, last).text = request_id
    return _bytes(root)


def _write_members(parent: ElementTree.Element, value: Mapping[str, Any], shape: Any) -> None:
    for name, part in value.items():
        member = shape.members[name]
        _write(parent, member.serialization.get("name", name), part, member)


def _write(parent: ElementTree.Element, name: str, value: Any, shape: Any) -> None:
    if shape.type_name == "list":
        flattened = shape.serialization.get("flattened")
        inner = shape.member.serialization.get("name", name if flattened else "member")
        holder = parent if flattened else ElementTree.SubElement(parent, name)
        for part in value:
            _write(holder, inner, part, shape.member)
        return
    if shape.type_name == "map":
        flattened = shape.serialization.get("flattened")
        holder = parent if flattened else ElementTree.SubElement(parent, name)
        for key, part in value.items():
            entry = ElementTree.SubElement(holder, name if flattened else "entry")
            _write(entry, shape.key.serialization.get("name", "key"), key, shape.key)
            _write(entry, shape.value.serialization.get("name", "value"), part, shape.value)
        return
    element = ElementTree.SubElement(parent, name)
    if shape.type_name == "structure":
        _write_members(element, value, shape)
    else:
        element.text = to_text(value, shape)


def _bytes(root: ElementTree.Element) -> bytes:
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
