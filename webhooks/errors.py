"""Why a delivery is not accepted, each with the HTTP status that GitHub is answered with."""

from __future__ import annotations

import inspect


class WebhookError(Exception):
    """This delivery is not accepted.

    `status` is the HTTP status of the answer; `reason` is a short, stable code that holds nothing of the delivery
    and may be counted and stored. The message holds nothing of the body's content either.
    """

    status: int = 400

    def __init__(self, message: str | None = None, *, reason: str) -> None:
        self.message: str = message or inspect.cleandoc(type(self).__doc__ or "")
        self.reason: str = reason
        super().__init__(self.message)


class TooLargeError(WebhookError):
    """The delivery is larger than the 25 MB that GitHub sends at most.

    https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap
    """

    status = 413


class BadSignatureError(WebhookError):
    """The X-Hub-Signature-256 header is missing or does not sign this body with the webhook's secret."""

    status = 401


class BadBodyError(WebhookError):
    """The body or a header is not what GitHub sends for this event."""

    status = 400


class WrongContentTypeError(BadBodyError):
    """The webhook's content type is to be set to application/json, and bodies are sent as they are, not compressed."""

    status = 415


class AnotherAppError(WebhookError):
    """This delivery was made for another App's webhook, under the secret of this one. Give each App a secret of its own."""

    status = 403


class TakesLongError(Exception):
    """A text that mentions the App is longer than was to be read now. Nothing is wrong with it."""


class MissingSecretError(ValueError):
    """No webhook secret is configured, so no delivery could be told from a forged one. Set MAGICODE_WEBHOOK_SECRET."""

    def __init__(self) -> None:
        super().__init__(inspect.cleandoc(type(self).__doc__ or ""))
