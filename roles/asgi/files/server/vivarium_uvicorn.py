"""The application as Uvicorn runs it: the very object that its description names, in a worker with a heartbeat."""

import os

import uvicorn
from vivarium_heartbeat import Heartbeat, load

application = load(os.environ["VIVARIUM_APPLICATION"])
heartbeat = Heartbeat(float(os.environ["VIVARIUM_HANG_TIMEOUT"]))
startup = uvicorn.Server.startup


async def start_and_beat(self, *arguments, **options):
    await startup(self, *arguments, **options)
    heartbeat.start()


# A worker imports this just before: its start ends when it listens.
uvicorn.Server.startup = start_and_beat
