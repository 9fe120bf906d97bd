"""Traces by OpenTelemetry: from the command that a program sends to the ack of the client that has it.

Exports: `sending`, which makes the id of a traced command (`sending`); the service's spans (`spans`); and the
place of a span as a text (`traceparent`).
"""
