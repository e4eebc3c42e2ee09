import asyncio
import json
import threading
from unittest import mock
from urllib.parse import urlencode

from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client, TransactionTestCase, override_settings

from herbarium.asgi import application
from sightings import live
from sightings.models import Register, Sighting

from .helpers import member, sighting


class Socket:
    """A browser's end of /ws/live/."""

    def __init__(self, path="/ws/live/", host="testserver", origin=None, cookies=None, **query):
        headers = [(b"host", host.encode())]
        if origin:
            headers.append((b"origin", origin.encode()))
        if cookies:
            pairs = "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())
            headers.append((b"cookie", pairs.encode()))
        self.scope = {
            "type": "websocket",
            "path": path,
            "query_string": urlencode(query).encode(),
            "headers": headers,
            "scheme": "wss",
            "server": ("testserver", 443),
            "client": ("127.0.0.1", 1),
            "subprotocols": [],
        }
        self.communicator = ApplicationCommunicator(application, self.scope)

    async def __aenter__(self):
        await self.communicator.send_input({"type": "websocket.connect"})
        self.answer = (await self.communicator.receive_output(15))["type"]
        return self

    async def __aexit__(self, *_):
        if self.answer == "websocket.accept" and not self.communicator.future.done():
            await self.communicator.send_input({"type": "websocket.disconnect", "code": 1001})
        await self.communicator.wait(5)

    async def send(self, text):
        await self.communicator.send_input({"type": "websocket.receive", "text": text})

    async def event(self, timeout=15):
        return await self.communicator.receive_output(timeout)

    async def message(self, timeout=15):
        return json.loads((await self.event(timeout))["text"])


@sync_to_async(thread_sensitive=False)
def publish(*plants):
    # As another process would: on a connection of its own.
    try:
        for plant in plants:
            sighting(get_user_model().objects.get(), plant)
    finally:
        connection.close()


class Live(TransactionTestCase):
    def setUp(self):
        self.ada = member()

    def run_with(self, coroutine_function):
        async_to_sync(coroutine_function)()
        # The feed ends with its last socket.
        self.assertIsNone(live.feed.task)
        self.assertFalse(live.feed.queues)

    def test_new_sheets_reach_everyone_in_order(self):
        sighting(self.ada, "Before")

        async def talk():
            async with Socket() as one, Socket() as two:
                for socket in (one, two):
                    self.assertEqual((await socket.message())["last"], 1)
                await publish("Alder", "Birch", "Cherry")
                for socket in (one, two):
                    sheets = [await socket.message() for _ in range(3)]
                    self.assertEqual([sheet["plant"] for sheet in sheets], ["Alder", "Birch", "Cherry"])
                    self.assertEqual([sheet["number"] for sheet in sheets], [2, 3, 4])

        self.run_with(talk)

    def test_whoever_comes_back_gets_what_was_missed_once(self):
        for plant in ("Alder", "Birch"):
            sighting(self.ada, plant)

        async def talk():
            async with Socket(after=1) as socket:
                self.assertEqual((await socket.message())["type"], "welcome")
                self.assertEqual((await socket.message())["plant"], "Birch")
                await publish("Cherry")
                self.assertEqual((await socket.message())["plant"], "Cherry")
                await socket.send('{"type": "echo", "id": 7}')
                self.assertEqual(await socket.message(), {"type": "echo", "id": 7, "last": 3, "release": ""})

        self.run_with(talk)

    def test_a_backlog_has_an_end(self):
        for index in range(6):
            sighting(self.ada, f"Plant {index}")

        async def talk():
            async with Socket(after=0) as socket:
                await socket.message()
                self.assertEqual([(await socket.message())["number"] for _ in range(3)], [4, 5, 6])

        with mock.patch.object(live, "BACKLOG", 3):
            self.run_with(talk)

    @override_settings(RELEASE="v7")
    def test_members_are_known_by_their_session(self):
        browser = Client()
        browser.force_login(self.ada)

        async def talk():
            async with Socket(cookies=browser.cookies, origin="https://testserver") as socket:
                expected = {"type": "welcome", "release": "v7", "member": "ada", "last": 0}
                self.assertEqual(await socket.message(), expected)
            async with Socket(cookies={}) as socket:
                self.assertIsNone((await socket.message())["member"])

        self.run_with(talk)

    def test_a_session_ends_with_the_password_it_began_with(self):
        browser = Client()
        browser.force_login(self.ada)
        self.ada.set_password("another one entirely")
        self.ada.save()

        async def talk():
            async with Socket(cookies=browser.cookies) as socket:
                self.assertIsNone((await socket.message())["member"])

        self.run_with(talk)

    def test_a_session_survives_a_new_secret_key_and_keeps_its_id(self):
        browser = Client()
        browser.force_login(self.ada)

        async def talk():
            async with Socket(cookies=browser.cookies) as socket:
                self.assertEqual((await socket.message())["member"], "ada")

        with override_settings(SECRET_KEY="new" * 20, SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
            self.run_with(talk)
            self.assertEqual(browser.get("/mine/").status_code, 200)

    def test_strangers_are_refused(self):
        async def talk():
            for stranger in (
                Socket(path="/ws/elsewhere/"),
                Socket(host="evil.example"),
                Socket(origin="https://evil.example"),
                Socket(origin="null"),
            ):
                async with stranger as socket:
                    self.assertEqual(socket.answer, "websocket.close")
            async with Socket(origin="https://testserver") as socket:
                self.assertEqual(socket.answer, "websocket.accept")

        with self.assertLogs("sightings.live", "INFO") as logged:
            self.run_with(talk)
        self.assertEqual(len(logged.output), 4)

    def test_rubbish_is_passed_over_and_too_much_of_it_ends_the_talk(self):
        async def talk():
            async with Socket() as socket:
                await socket.message()
                for text in ("", "{", "[]", "7", '{"type": 1}', '{"type": "unknown"}'):
                    await socket.send(text)
                await socket.send('{"type": "echo"}')
                self.assertEqual((await socket.message())["type"], "echo")
                await socket.send("x" * 5000)
                self.assertEqual(await socket.event(), {"type": "websocket.close", "code": 1009})

        self.run_with(talk)

    def test_a_browser_that_does_not_read_is_let_go(self):
        async def talk():
            arrived, stuck, events = asyncio.Event(), asyncio.Event(), asyncio.Queue()
            await events.put({"type": "websocket.connect"})
            closed = []

            async def send(event):
                if event["type"] == "websocket.close":
                    closed.append(event["code"])
                elif "sighting" in event.get("text", ""):
                    await stuck.wait()
                elif "welcome" in event.get("text", ""):
                    arrived.set()

            talk = asyncio.create_task(application(Socket().scope, events.get, send))
            await arrived.wait()
            await publish("A", "B", "C", "D", "E")
            await asyncio.wait_for(talk, 15)
            self.assertEqual(closed, [1013])

        with mock.patch.object(live, "WAITING", 2):
            self.run_with(talk)


class Numbers(TransactionTestCase):
    def test_writers_at_the_same_time_get_numbers_without_gaps(self):
        ada = member()
        Register.next_number()
        errors = []

        def write():
            try:
                for _ in range(5):
                    sighting(ada)
            except Exception as error:
                errors.append(error)
            finally:
                connection.close()

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [])
        numbers = Sighting.objects.order_by("number").values_list("number", flat=True)
        self.assertEqual(list(numbers), list(range(2, 22)))
