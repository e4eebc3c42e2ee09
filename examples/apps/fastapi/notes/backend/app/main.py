from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from app.config import settings
from app.models import Note

engine = create_async_engine(str(settings.database_url))
new_session = async_sessionmaker(engine, expire_on_commit=False)


async def session():
    async with new_session() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]


class NewNote(BaseModel):
    text: str


class StoredNote(NewNote):
    model_config = ConfigDict(from_attributes=True)
    id: int


app = FastAPI(title="Notes")
app.mount("/static", StaticFiles(directory="app/static"))


@app.get("/health")
async def health(session: Session) -> dict[str, str]:
    await session.execute(text("SELECT 1"))
    return {"status": "ok"}


@app.get("/notes")
async def notes(session: Session) -> list[StoredNote]:
    return [StoredNote.model_validate(note) for note in await session.scalars(select(Note).order_by(Note.id))]


@app.post("/notes", status_code=201)
async def add_note(new: NewNote, session: Session) -> StoredNote:
    note = Note(text=new.text)
    session.add(note)
    await session.commit()
    return StoredNote.model_validate(note)
