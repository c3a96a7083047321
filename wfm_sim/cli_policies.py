"""The command `wfm-sim serve-policy`: a policy of ours behind openpi's websocket protocol."""

from __future__ import annotations

from typing import Annotated

import typer


def serve_policy(
    policy: Annotated[str, typer.Argument(help="A policy's name, as `wfm-sim eval policy` takes it.")],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all, with an API key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 takes a free one.")] = 8000,
    seed: Annotated[int, typer.Option(help="Of an openpi client's first episode; our own client sends seeds.")] = 0,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="WFM_SIM_POLICY_API_KEY",
            show_envvar=True,
            help="Clients must send it as 'Authorization: Api-Key KEY'. In the variable it shows in no process list.",
        ),
    ] = None,
) -> None:
    """Offer a policy to openpi clients, RoboArena's, and `openpi://` policies of wfm-sim. Ctrl-C stops."""
    import contextlib
    import signal
    from types import FrameType

    from wfm_sim.evals.policy_loading import make_policy
    from wfm_sim.policies.server import PolicyServer, ServerConfig

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    config = ServerConfig(host=host, port=port, api_key=api_key, seed=seed)
    signal.signal(signal.SIGTERM, stop)
    with PolicyServer(lambda: make_policy(policy), config) as server:
        print(f"serving policy {policy!r} at {server.url} (Ctrl-C stops)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    print(f"stopped after {server.requests} requests")
