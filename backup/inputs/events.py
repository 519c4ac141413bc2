"""Inputs that come with an event, as Lambda gets them, checked before they are used."""

from __future__ import annotations

from backup.errors import Fault, InputError
from backup.inputs import secrets_among
from backup.inputs.entries import as_text, unfit
from backup.options import OPTIONS

_SECRETS = {option.name for option in OPTIONS if option.secret}

# They travel as variables of the environment, of which Linux takes 128 KiB each (execve(2)).
_LONGEST_BYTES = 100_000


def inputs_of(event: object) -> dict[str, str]:
    """The texts by their inputs' names. An event of a schedule, which has no `inputs`, gives none.

    Raises InputError for one of another shape, and with every fault found in its inputs.
    """
    match event:
        case {"inputs": dict(given), **others} if not others:
            pass
        case {"detail-type": _, **others} if "inputs" not in others:
            return {}
        case None:
            return {}
        case dict() if event == {}:
            return {}
        case _:
            raise InputError(
                "the event is not of the form that this function takes",
                detail=f"it is {_shape(event)}",
                hint='send {"inputs": {"database": "shop"}}, with inputs as the README names them,'
                " or {} where the function's variables say all",
            )
    texts = {name: as_text(value) for name, value in given.items()}
    faults = [fault for name, text in texts.items() if (fault := _fault(name, text))]
    if faults:
        raise InputError.from_faults(faults)
    return {name: text for name, text in texts.items() if text}


def _fault(name: str, text: str | None) -> Fault | None:
    """What is wrong with one input; its value is never shown."""
    if name in _SECRETS or secrets_among({name: text or ""}):
        return Fault(
            name,
            "is a secret, and events are kept in logs, queues and schedules",
            "name a secret of Secrets Manager as password-secret-id, or give it to the function as"
            f" INPUT_{name.upper().replace('-', '_')}",
        )
    if wrong := unfit(name):
        return Fault(ascii(name)[1:-1][:40], *wrong)
    if text is None:
        return Fault(name, "is a list or an object", "write a text, a number, true or false")
    if "\0" in text or not _is_utf8(text):
        return Fault(name, "is not UTF-8, or has a zero byte in it", "write it in UTF-8")
    if len(text.encode()) > _LONGEST_BYTES:
        return Fault(name, f"is longer than {_LONGEST_BYTES} bytes", "write less")
    return None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shape(event: object) -> str:
    if isinstance(event, dict):
        names = ", ".join(ascii(name)[:40] for name in list(event)[:5])
        return f"an object with {names}"
    return f"a {type(event).__name__}"
