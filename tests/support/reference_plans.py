"""What the golden data are made of: files of the inputs by name, conversations, sentences."""

from __future__ import annotations

from dataclasses import replace

from vita_edge.verification.recorder.plan import Conversation, Plan

__all__ = ["GOLDEN_PLAN", "SHORT_PLAN"]

SEE = "What do you see in this image?"
LIVE2 = Conversation("video", clip="clip_20.json", sounds=("zh_ask.wav", "en_short.wav"), live=True, past="live1")
CONVERSATIONS = {
    "text": Conversation("lang", text="Hello, how are you today?"),
    "image_text": Conversation("image", text=SEE, picture="square.png"),
    "audio": Conversation("lang", sounds=("en_look.wav",)),
    "image_audio": Conversation("image", picture="wide.png", sounds=("zh_ask.wav",), spoken=True),
    "video_audio": Conversation("video", clip="clip_2.json", sounds=("en_short.wav",)),
    "video_text": Conversation("video", text=SEE, clip="clip_2.json"),
    "live1": Conversation("audio", sounds=("zh_ask.wav",), live=True, spoken=True),
    "live2": replace(LIVE2, stray_mark=True, spoken=True),
    "live2_clean": LIVE2,
}
TEXTS = ("Hello, world!", "你好，世界！", "☞你好", "☜ Hi", "a  b\n\nc\t d", "3.14159 and 2024年", "it's we're I'LL")
TEXTS += ("<|im_start|>user\nhi<|im_end|>\n", "café cafe\u0301", "🙂 emoji", "", " ", "\n", "x" * 40, "<image>")
TEXTS += ("tool <tool_call> x", "1,234,567.89%", "ＡＢＣ①②", "The quick brown fox.")

GOLDEN_PLAN = Plan(
    sounds=("en_look", "zh_ask", "en_short", "en_long", "stereo_44k", "mono_8k"),
    pictures=("square", "wide", "tall", "odd"),
    conversations=CONVERSATIONS,
    sentences={
        "s0": "it looks like a simple drawing.",
        "s1": "maybe we should go for a walk.",
        "s2": "please describe the image.",
    },
    sampled_clip="clip_2.json",
    full_attention=("en_look", "en_long"),
    texts=TEXTS,
)
"""All that the golden data hold."""

SHORT_PLAN = replace(
    GOLDEN_PLAN,
    sounds=("zh_ask", "stereo_44k"),
    pictures=("square", "wide"),
    conversations={name: CONVERSATIONS[name] for name in ("text", "image_audio", "live1")},
    full_attention=("zh_ask",),
    max_tokens=40,
)
"""Every stage once, and resampling, tiles, and a reply that is spoken."""
