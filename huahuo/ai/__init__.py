"""Token streams of language models that survive reloads, other tabs, and restarts of the web process.

Exports `answer` (the entity whose streams they are), `resumable`, and `ui_message_stream`, the same as the
Vercel AI SDK reads it.
"""

from huahuo.ai.answers import Answer, answer
from huahuo.ai.running import Running, resumable
from huahuo.ai.ui_messages import UI_MESSAGE_HEADERS, ui_message_stream

__all__ = ["UI_MESSAGE_HEADERS", "Answer", "Running", "answer", "resumable", "ui_message_stream"]
