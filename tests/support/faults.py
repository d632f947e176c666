"""The faults that a :class:`fault_proxy.FaultProxy` can play."""

import http.client
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tests.support.fault_proxy import Answer, Exchange, Fault, error_answer, json_answer


def passing(first: Callable[[], object] | None = None) -> Fault:
    """Call *first*, and forward the request."""

    def play(exchange: Exchange) -> Answer:
        if first is not None:
            first()
        return exchange.forward()

    return play


def reset_before() -> Fault:
    """Reset the connection without forwarding the request."""
    return lambda _: None


def reset_after(then: Callable[[], object] | None = None) -> Fault:
    """Forward the request, call *then*, and reset the connection unanswered."""

    def play(exchange: Exchange) -> None:
        exchange.forward()
        if then is not None:
            then()

    return play


def truncate(keep: float = 0.5, of: Fault = Exchange.forward) -> Fault:
    """Close the connection within the body of the answer *of* another fault."""

    def play(exchange: Exchange) -> Answer | None:
        answer = of(exchange)
        return answer and replace(answer, sent=int(keep * len(answer.body)))

    return play


def corrupt(at: int | bytes = 0, of: Fault = Exchange.forward) -> Fault:
    """Flip one bit in the body of the answer *of* another fault.

    *at* is the byte's position, or a text whose last occurrence begins with it; an
    answer without that text passes as it is.
    """

    def play(exchange: Exchange) -> Answer | None:
        answer = of(exchange)
        body = bytearray(answer.body if answer else b"")
        position = body.rfind(at) if isinstance(at, bytes) else at % len(body)
        if position >= 0:
            body[position] ^= 1
        return answer and replace(answer, body=bytes(body))

    return play


def delay(seconds: float, of: Fault = Exchange.forward) -> Fault:
    """Wait before another fault is played."""

    def play(exchange: Exchange) -> Answer | None:
        exchange.wait(seconds)
        return of(exchange)

    return play


def delay_after(seconds: float, of: Fault = Exchange.forward) -> Fault:
    """Play another fault, and answer late."""

    def play(exchange: Exchange) -> Answer | None:
        answer = of(exchange)
        exchange.wait(seconds)
        return answer

    return play


def black_hole() -> Fault:
    """Neither forward the request nor answer it, until the proxy ends."""

    def play(exchange: Exchange) -> None:
        exchange.wait(None)

    return play


def error(code: str, status: int = 400) -> Fault:
    """Answer with an error, without forwarding the request."""
    return lambda _: error_answer(code, status)


def error_after(code: str, status: int = 500) -> Fault:
    """Forward the request, and still answer with an error."""

    def play(exchange: Exchange) -> Answer:
        exchange.forward()
        return error_answer(code, status)

    return play


def change(function: Callable[[Any], Any]) -> Fault:
    """Forward the request, and change the content of its answer."""

    def play(exchange: Exchange) -> Answer:
        answer = exchange.forward()
        return answer.with_json(function(answer.json))

    return play


def write_part(count: int) -> Fault:
    """Forward the first *count* puts of a BatchWriteItem.

    The others come back as UnprocessedItems.
    """

    def play(exchange: Exchange) -> Answer:
        asked = exchange.request.json
        puts = [(t, put) for t, some in asked["RequestItems"].items() for put in some]
        left = _grouped(puts[count:])
        if not puts[:count]:
            return json_answer(200, {"UnprocessedItems": left})
        part = asked | {"RequestItems": _grouped(puts[:count])}
        answer = exchange.forward(exchange.request.with_json(part))
        return _with_left(answer, "UnprocessedItems", left)

    return play


def read_part(count: int) -> Fault:
    """Forward the first *count* keys of a BatchGetItem.

    The others come back as UnprocessedKeys.
    """

    def play(exchange: Exchange) -> Answer:
        asked = exchange.request.json
        wanted: dict[str, Any] = asked["RequestItems"]
        keys = [(t, key) for t, each in wanted.items() for key in each["Keys"]]
        left = _with_keys(wanted, keys[count:])
        if not keys[:count]:
            nothing: dict[str, Any] = {"Responses": {table: [] for table in wanted}}
            return json_answer(200, nothing | {"UnprocessedKeys": left})
        part = asked | {"RequestItems": _with_keys(wanted, keys[:count])}
        answer = exchange.forward(exchange.request.with_json(part))
        return _with_left(answer, "UnprocessedKeys", left)

    return play


def _grouped(pairs: list[tuple[str, Any]]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for table, value in pairs:
        grouped.setdefault(table, []).append(value)
    return grouped


def _with_keys(
    wanted: Mapping[str, Any], keys: list[tuple[str, Any]]
) -> dict[str, Any]:
    return {t: wanted[t] | {"Keys": some} for t, some in _grouped(keys).items()}


def _with_left(answer: Answer, name: str, left: Mapping[str, Any]) -> Answer:
    if answer.status != http.client.OK:
        return answer
    content = answer.json
    return answer.with_json(content | {name: content.get(name, {}) | left})
