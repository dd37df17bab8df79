"""Every command that holds a session chooses tokens by the same options, with the defaults of the product."""

from __future__ import annotations

import argparse

import pytest

from vita_edge.cli.ask import add_options, options_from
from vita_edge.cli.chat import add_live_options, live_options
from vita_edge.engines.errors import Misuse
from vita_edge.runtime import SamplingOptions, SessionOptions
from vita_edge.runtime.live.live_options import LiveOptions

WORDS = "--temperature 0.7 --top-k 40 --top-p 0.9 --min-p 0.05 --repetition-penalty 1.1 --stop END --stop . --seed 3"
CHOSEN = {"temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.1}


def asked(*words: str) -> SessionOptions:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return options_from(parser.parse_args(words), speak=True)


def live(*words: str) -> LiveOptions:
    parser = argparse.ArgumentParser()
    add_live_options(parser)
    return live_options(parser.parse_args(words))


@pytest.mark.parametrize("options", [asked, live])
def test_what_is_given_arrives(options: type) -> None:
    found = options(*WORDS.split())
    assert {name: getattr(found, name) for name in CHOSEN} == CHOSEN
    assert (found.stop, found.seed) == (("END", "."), 3)


def test_what_is_not_given_is_the_default_of_the_product() -> None:
    assert asked() == SessionOptions()
    assert live() == LiveOptions()
    assert SessionOptions().repetition_penalty is None  # the checkpoint's


@pytest.mark.parametrize("options", [asked, live])
def test_greedy_draws_nothing(options: type) -> None:
    found = options("--greedy", "--temperature", "0.7")
    assert isinstance(found, SamplingOptions)
    assert (found.temperature, found.speech_top_k) == (0.0, 1)


@pytest.mark.parametrize("words", ["--top-p 0", "--min-p 2", "--temperature -1", "--repetition-penalty 0", "--seed -1"])
def test_a_value_out_of_its_range_is_refused(words: str) -> None:
    with pytest.raises(Misuse):
        asked(*words.split())
