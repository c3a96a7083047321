"""Remote policies by name, for command lines and records: 'openpi://host:port?option=value&...'.

    remote_policy("openpi://127.0.0.1:8000")                                   # a server of ours
    remote_policy("openpi://lab:8000?actions=bridge-rlds&horizon=8&image_size=224")
    remote_policy("roboarena://lab:8000?blank=observation/wrist_image_left")

An API key never stands in a name, which reports print: it comes from the variable WFM_SIM_POLICY_API_KEY.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from wfm_sim.errors import UserError, unknown
from wfm_sim.policies.remote import DEFAULT_PORT, OpenpiPolicy
from wfm_sim.policies.remote_connection import Limits
from wfm_sim.policies.remote_observations import ObservationKeys

SCHEMES = ("openpi", "roboarena")
OPTIONS = ("actions", "horizon", "image_size", "image", "state", "prompt", "blank", "timeout", "tls")


def remote_policy(name: str) -> OpenpiPolicy:
    """The policy that a name stands for: 'openpi://host:port' or 'roboarena://host:port', options after a '?'.

    Options: actions (a contract's name, or a JSON file), horizon, image_size (224 or 180x320), image, state, prompt
    (keys of the request; state= and prompt= send none), blank (key of an image, may be repeated), timeout (seconds for
    a reply), tls (1: wss://).

    Raises:
        UserError: an unknown option, or a value that is none.
    """
    parts = urlsplit(name)
    if parts.scheme not in SCHEMES or not parts.hostname or parts.username or parts.path not in ("", "/"):
        raise UserError(f"{name!r} is no remote policy; expected openpi://host:port or roboarena://host:port")
    given = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(given)
    for option in options:
        if option not in OPTIONS:
            raise unknown("option of a remote policy", option, OPTIONS)
    try:
        port = parts.port or DEFAULT_PORT
        sides = tuple(int(side) for side in options.get("image_size", "").split("x") if side)
        horizon = int(options["horizon"]) if "horizon" in options else None
        limits = Limits(infer_timeout=float(options.get("timeout", Limits.infer_timeout)))
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{name!r} has an option that is no number: {error}") from error
    blank = tuple(key for option, key in given if option == "blank" and key)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    image_size = None if not sides else (sides[0], sides[-1])
    keys = ObservationKeys(
        images={options.get("image", "observation/image"): "pixels"},
        state=options.get("state", "observation/state") or None,
        prompt=options.get("prompt", "prompt") or None,
        image_size=image_size,
        blank=blank if parts.scheme == "openpi" else (),
    )
    return OpenpiPolicy(
        f"wss://{host}" if options.get("tls") == "1" else host,
        port,
        dialect="auto" if parts.scheme == "openpi" else "roboarena",
        actions=options.get("actions"),
        horizon=horizon,
        keys=keys,
        blank=blank,
        limits=limits,
        name=name,
    )
