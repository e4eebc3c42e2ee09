from litestar import Litestar, MediaType, get, post, websocket_listener
from litestar.static_files import create_static_files_router
from pydantic import BaseModel


class Book(BaseModel):
    title: str


@get("/", media_type=MediaType.HTML)
async def index() -> str:
    return '<link rel="stylesheet" href="/static/books.css"><h1>Books</h1>'


@get("/books/{book_id:int}")
async def get_book(book_id: int) -> dict[str, int]:
    return {"book_id": book_id}


@post("/books")
async def add_book(data: Book) -> Book:
    return data


@websocket_listener("/echo")
async def echo(data: str) -> str:
    return data


app = Litestar([index, get_book, add_book, echo, create_static_files_router(path="/static", directories=["assets"])])
