"""Anthropic's official client against the real server, block by block and event by event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from hanok.serve import Server

from .conftest import ENGLISH, KOREAN
from .wire import send

ASK = [{"role": "user", "content": "한옥이 뭐야?"}]
SUM = [{"role": "user", "content": "What is 7 + 5?"}]
THINK = {"type": "enabled", "budget_tokens": 1024}
GREEDY = {"temperature": 0}


@pytest.fixture
def claude(server: Server) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="unused", max_retries=0, timeout=60) as made:
        yield made


def create(client: anthropic.Anthropic, **options: Any) -> anthropic.types.Message:
    return client.messages.create(**{"model": "tiny", "max_tokens": 120, "extra_body": GREEDY, **options})


def test_a_message_with_usage_and_the_tokens_counted_before(claude: anthropic.Anthropic) -> None:
    message = create(claude, messages=ASK)
    assert [block.type for block in message.content] == ["text"] and message.content[0].text == KOREAN
    assert message.stop_reason == "end_turn" and message.role == "assistant" and message.model == "tiny"
    assert message.id.startswith("msg_") and message._request_id
    counted = claude.messages.count_tokens(model="tiny", messages=ASK)
    assert counted.input_tokens == message.usage.input_tokens and message.usage.output_tokens > 10
    longer = claude.messages.count_tokens(model="tiny", messages=ASK, system=[{"type": "text", "text": "Be kind."}])
    assert longer.input_tokens > counted.input_tokens


def test_content_blocks_are_joined_and_a_begun_reply_goes_on(claude: anthropic.Anthropic) -> None:
    blocks = [{"type": "text", "text": "한옥이 "}, {"type": "text", "text": "뭐야?"}]
    begun = "안녕하세요! 한옥은"
    messages = [{"role": "user", "content": blocks}, {"role": "assistant", "content": begun}]
    assert begun + create(claude, messages=messages).content[0].text == KOREAN


def test_thoughts_are_blocks_where_they_are_asked_for(claude: anthropic.Anthropic) -> None:
    shown = create(claude, messages=SUM, thinking=THINK)
    assert [block.type for block in shown.content] == ["thinking", "text"]
    assert shown.content[0].thinking == "Seven and five make twelve." and shown.content[1].text == "It is 12."
    hidden = create(claude, messages=SUM)
    assert [block.type for block in hidden.content] == ["text"]
    assert hidden.usage.output_tokens == shown.usage.output_tokens, "they were written all the same"
    again = [*SUM, {"role": "assistant", "content": shown.to_dict()["content"]}, *ASK]
    assert create(claude, messages=again, max_tokens=3).stop_reason == "max_tokens"


def test_the_stop_sequence_that_was_met_is_named(claude: anthropic.Anthropic) -> None:
    message = create(claude, messages=ASK, stop_sequences=["nothing", "방마다"])
    assert message.content[0].text == KOREAN.split("방마다")[0]
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "방마다")


def test_the_stream_s_events_come_in_order(claude: anthropic.Anthropic) -> None:
    names, texts = [], {"thinking": "", "text": ""}
    for event in create(claude, messages=SUM, thinking=THINK, stream=True):
        if event.type == "content_block_delta":
            for kind in texts:
                texts[kind] += getattr(event.delta, kind, "")
        if not names or names[-1] != event.type:
            names.append(event.type)
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert names == ["message_start", *block, *block, "message_delta", "message_stop"]
    assert texts == {"thinking": "Seven and five make twelve.", "text": "It is 12."}
    options = {"model": "tiny", "max_tokens": 120, "extra_body": GREEDY}
    with claude.messages.stream(messages=[{"role": "user", "content": "What is a hanok?"}], **options) as stream:
        assert "".join(stream.text_stream) == ENGLISH
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn" and final.usage.output_tokens > 10 and final.usage.input_tokens > 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": []}, "messages"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**6}, "context holds 256"),
        ({"temperature": 1.5}, "temperature"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "needs tool_use_id"),
        ({"system": [{"type": "image"}]}, "only text blocks"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"stop_sequences": ["a" * 257]}, "stop_sequences"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
    ],
)
def test_refusals_have_anthropic_s_shape(server: Server, change: dict[str, Any], words: str) -> None:
    answer = send(server.url, "/v1/messages", {"model": "tiny", "max_tokens": 5, "messages": ASK, **change})
    body = json.loads(answer[2])
    assert answer[0] == 400 and set(body) == {"type", "error"} and body["type"] == "error", answer
    assert body["error"]["type"] == "invalid_request_error" and words in body["error"]["message"], body
    assert answer[1]["request-id"] == answer[1]["x-request-id"]


def test_the_client_knows_our_errors(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="does not exist"):
        create(claude, model="other", messages=ASK)
    with pytest.raises(anthropic.BadRequestError, match="context holds"):
        create(claude, messages=ASK, max_tokens=10_000)
