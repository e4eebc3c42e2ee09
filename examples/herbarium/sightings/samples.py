"""Sample sightings and the pen that draws them: pressed plants on paper, a little different each."""

import itertools
import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFilter

SCALE = 2  # drawn larger, then reduced: smooth edges
WIDTH, HEIGHT = 800, 800


@dataclass(frozen=True)
class Sample:
    plant: str
    scientific_name: str
    place: str
    notes: str
    description: str
    paper: str
    stem: str
    stems: int
    leaf: str
    leaf_size: tuple  # length, width
    pairs: int
    flower: str  # petals, bells, globe, fans, or none: a frond
    petal: str = "#ffffff"
    heart: str = "#d9a521"
    radius: int = 60
    petals: int = 5
    side_flowers: bool = False


SAMPLES = [
    Sample(
        "Maidenhair tree",
        "Ginkgo biloba",
        "Old botanical garden, east gate",
        "A single low branch, already turning. The leaves come down within one night.",
        "fan-shaped yellow leaves on a thin twig",
        paper="#efe6cf",
        stem="#6b5233",
        stems=1,
        leaf="#d8a92b",
        leaf_size=(60, 40),
        pairs=0,
        flower="fans",
        petal="#dcae34",
    ),
    Sample(
        "Sweet pea",
        "Lathyrus odoratus",
        "Garden fence, Mill Lane",
        "Climbing through the wire, three shades on one plant.",
        "pink flowers on a climbing stem",
        paper="#f1e8d8",
        stem="#5f7f4a",
        stems=2,
        leaf="#6f9656",
        leaf_size=(80, 26),
        pairs=5,
        flower="petals",
        petal="#cf6a8c",
        heart="#f3d7de",
        radius=62,
        petals=4,
        side_flowers=True,
    ),
    Sample(
        "Male fern",
        "Dryopteris filix-mas",
        "North slope of the beech wood",
        "Knee-high, unrolling. Wet ground, much moss.",
        "a tall fern frond with many narrow leaflets",
        paper="#ece5d0",
        stem="#4d5c2f",
        stems=1,
        leaf="#5e7a3a",
        leaf_size=(120, 24),
        pairs=12,
        flower="none",
    ),
    Sample(
        "Ox-eye daisy",
        "Leucanthemum vulgare",
        "Railway embankment, km 12",
        "Hundreds, all turned to the south.",
        "white daisies with yellow hearts",
        paper="#d9dfcf",
        stem="#56703f",
        stems=3,
        leaf="#6d8a4b",
        leaf_size=(90, 22),
        pairs=4,
        flower="petals",
        petal="#fbfaf3",
        heart="#e0a91e",
        radius=82,
        petals=17,
    ),
    Sample(
        "Bluebell",
        "Hyacinthoides non-scripta",
        "Clearing above the quarry pond",
        "The whole clearing smells of them. First of the year.",
        "nodding blue bells on arching stems",
        paper="#e9e6dc",
        stem="#587048",
        stems=2,
        leaf="#6c8a58",
        leaf_size=(170, 18),
        pairs=2,
        flower="bells",
        petal="#5666b3",
        heart="#8a96d1",
    ),
    Sample(
        "Field poppy",
        "Papaver rhoeas",
        "Edge of the barley field, Long Acre",
        "One evening, and gone the next morning.",
        "red poppies with dark hearts",
        paper="#f0e7d2",
        stem="#667a45",
        stems=2,
        leaf="#7b9152",
        leaf_size=(80, 20),
        pairs=4,
        flower="petals",
        petal="#cf3f2b",
        heart="#2b211e",
        radius=96,
        petals=4,
    ),
    Sample(
        "Globe thistle",
        "Echinops ritro",
        "Gravel beside the tram depot",
        "Bees on every head; I counted nine on one.",
        "round steel-blue heads on grey stems",
        paper="#ebe7df",
        stem="#7d8575",
        stems=3,
        leaf="#8b977f",
        leaf_size=(110, 30),
        pairs=5,
        flower="globe",
        petal="#53689b",
        heart="#8295c4",
        radius=74,
    ),
    Sample(
        "Wood sorrel",
        "Oxalis acetosella",
        "Under the spruces, trail marker 7",
        "Folds its leaves when the sun reaches it.",
        "small white flowers above clover leaves",
        paper="#dfe3cf",
        stem="#7c8d55",
        stems=3,
        leaf="#8fb05f",
        leaf_size=(64, 44),
        pairs=3,
        flower="petals",
        petal="#f6f0f4",
        heart="#c9a0be",
        radius=60,
    ),
]


def quadratic(start, bend, end, steps=60):
    return [
        tuple((1 - t) ** 2 * a + 2 * (1 - t) * t * b + t**2 * c for a, b, c in zip(start, bend, end, strict=True))
        for t in (step / steps for step in range(steps + 1))
    ]


def shade(colour, by):
    red, green, blue = (int(colour[index : index + 2], 16) for index in (1, 3, 5))
    return tuple(max(0, min(255, round(channel * by))) for channel in (red, green, blue))


class Pen:
    def __init__(self, sample):
        self.sample = sample
        self.random = random.Random(sample.plant)
        self.image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), sample.paper)
        self.draw = ImageDraw.Draw(self.image)

    def at(self, points):
        return [(x * SCALE, y * SCALE) for x, y in points]

    def paper(self):
        # Fibres, and a little darker towards the edges.
        for _ in range(900):
            x, y = self.random.uniform(0, WIDTH), self.random.uniform(0, HEIGHT)
            angle, length = self.random.uniform(0, math.tau), self.random.uniform(3, 12)
            self.draw.line(
                self.at([(x, y), (x + length * math.cos(angle), y + length * math.sin(angle))]),
                fill=shade(self.sample.paper, self.random.uniform(0.955, 1.02)),
                width=1,
            )
        light = Image.radial_gradient("L").resize(self.image.size)
        self.image.paste(
            Image.new("RGB", self.image.size, shade(self.sample.paper, 0.86)),
            mask=light.point(lambda value: int(max(0, value - 90) * 0.9)),
        )

    def stroke(self, points, colour, start, end):
        for index, (here, there) in enumerate(itertools.pairwise(points)):
            width = 2 * start + 2 * (end - start) * index / len(points)
            self.draw.line(self.at([here, there]), fill=colour, width=round(width * SCALE))
            self.disc(*there, width / 2, colour)

    def disc(self, x, y, radius, colour):
        self.draw.ellipse(self.at([(x - radius, y - radius), (x + radius, y + radius)]), fill=colour)

    def leaf(self, x, y, angle, length, width, colour, vein=True):
        along, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
        outline = []
        for side in (1, -1):
            edge = [step / 16 for step in range(17)]
            for t in edge if side == 1 else reversed(edge):
                half = width / 2 * math.sin(math.pi * t**0.8) * side
                outline.append(
                    (x + along[0] * length * t + across[0] * half, y + along[1] * length * t + across[1] * half)
                )
        self.draw.polygon(self.at(outline), fill=colour)
        if vein:
            tip = (x + along[0] * length * 0.9, y + along[1] * length * 0.9)
            self.draw.line(self.at([(x, y), tip]), fill=tuple(int(channel * 0.82) for channel in colour), width=SCALE)

    def vary(self, colour, by=0.09):
        return shade(colour, self.random.uniform(1 - by, 1 + by))

    def petals(self, x, y, radius):
        count, turn = self.sample.petals, self.random.uniform(0, math.tau)
        if count < 6:
            # Round petals that overlap, each with a few veins.
            for index in range(count):
                angle, colour = turn + math.tau * index / count, self.vary(self.sample.petal, 0.07)
                out = 0.48 * radius
                self.disc(x + out * math.cos(angle), y + out * math.sin(angle), 0.5 * radius, colour)
                for spread in (-0.32, -0.16, 0, 0.16, 0.32):
                    reach = radius * self.random.uniform(0.62, 0.84)
                    tip = (x + reach * math.cos(angle + spread), y + reach * math.sin(angle + spread))
                    self.draw.line(self.at([(x, y), tip]), fill=tuple(int(c * 0.92) for c in colour), width=SCALE)
        else:
            for index in range(count):
                angle, colour = turn + math.tau * index / count, self.vary(self.sample.petal, 0.06)
                self.leaf(x, y, angle, radius, radius * 0.32, colour, vein=False)
        heart = radius * (0.2 if count < 6 else 0.3)
        self.disc(x, y, heart, shade(self.sample.heart, 1))
        for _ in range(30):
            angle, distance = self.random.uniform(0, math.tau), self.random.uniform(0.4, 1.4) * heart
            self.disc(
                x + distance * math.cos(angle), y + distance * math.sin(angle), 1.8, self.vary(self.sample.heart, 0.25)
            )

    def globe(self, x, y, radius):
        for ring in range(9, 0, -1):
            for index in range(ring * 6):
                angle = math.tau * index / (ring * 6) + ring
                distance = radius * ring / 9
                self.leaf(
                    x + distance * 0.55 * math.cos(angle),
                    y + distance * 0.55 * math.sin(angle),
                    angle,
                    radius * 0.5,
                    7,
                    self.vary(self.sample.petal if index % 3 else self.sample.heart, 0.12),
                    vein=False,
                )

    def bell(self, x, y, side):
        colour = self.vary(self.sample.petal, 0.08)
        stalk = quadratic((x, y), (x + side * 16, y - 14), (x + side * 26, y + 6), 20)
        self.stroke(stalk, shade(self.sample.stem, 0.95), 2, 2)
        top_x, top_y = x + side * 26, y + 4
        rim = [(-9, 0), (9, 0), (13, 34), (21, 46), (7, 40), (0, 48), (-7, 40), (-21, 46), (-13, 34)]
        self.draw.polygon(self.at([(top_x + right, top_y + down) for right, down in rim]), fill=colour)
        fold = self.at([(top_x, top_y + 4), (top_x, top_y + 42)])
        self.draw.line(fold, fill=shade(self.sample.heart, 1), width=SCALE)

    def fan(self, x, y, angle, radius):
        stalk = (x + 46 * math.cos(angle), y + 46 * math.sin(angle))
        self.draw.line(self.at([(x, y), stalk]), fill=shade(self.sample.stem, 1.1), width=2 * SCALE)
        colour, outline = self.vary(self.sample.petal, 0.1), [stalk]
        for step in range(41):
            turn = (step / 40 - 0.5) * 2.1
            reach = radius * (1 - 0.34 * math.exp(-((turn / 0.09) ** 2)) + 0.025 * math.sin(step * 1.7))
            outline.append((stalk[0] + reach * math.cos(angle + turn), stalk[1] + reach * math.sin(angle + turn)))
        self.draw.polygon(self.at(outline), fill=colour)
        darker = tuple(int(channel * 0.9) for channel in colour)
        for step in range(3, 38, 3):
            tip = tuple(0.93 * far + 0.07 * near for far, near in zip(outline[step + 1], stalk, strict=True))
            self.draw.line(self.at([stalk, tip]), fill=darker, width=SCALE)

    def plant(self, offset, height):
        sample = self.sample
        foot = (WIDTH / 2 + offset * 0.3, HEIGHT - 70)
        top = (WIDTH / 2 + offset, HEIGHT - 70 - height)
        bend = (WIDTH / 2 + offset * 0.2 + self.random.uniform(-60, 60), HEIGHT - 70 - height * 0.6)
        line = quadratic(foot, bend, top)
        self.stroke(line, shade(sample.stem, 1), 5, 2.5)
        length, width = sample.leaf_size
        frond = sample.flower == "none"
        for pair in range(sample.pairs):
            position = 0.12 + 0.8 * pair / max(sample.pairs, 1)
            x, y = line[int(position * 60)]
            size = math.sin(math.pi * (0.18 + 0.8 * position)) + 0.12 if frond else 1 - 0.55 * position
            for side in (1, -1):
                angle = -math.pi / 2 + side * self.random.uniform(0.8, 0.95 if frond else 1.05)
                self.leaf(x, y, angle, length * size, width * (1 if frond else size), self.vary(sample.leaf))
        x, y = top
        if sample.flower == "petals":
            self.petals(x, y, sample.radius)
            for position, side in ((40, 1), (50, -1)) if sample.side_flowers else ():
                self.petals(line[position][0] + side * 34, line[position][1], sample.radius * 0.75)
        elif sample.flower == "globe":
            self.globe(x, y, sample.radius)
        elif sample.flower == "bells":
            for index in range(7):
                self.bell(*line[26 + index * 5], 1 if index % 2 else -1)
        elif sample.flower == "fans":
            for index in range(9):
                side = 1 if index % 2 else -1
                x, y = line[10 + index * 6]
                angle = -math.pi / 2 + side * (self.random.uniform(0.6, 1.2) if index < 8 else 0.2)
                self.fan(x, y, angle, self.random.uniform(88, 124))
        else:
            self.leaf(x, y + 10, -math.pi / 2, 46, 16, self.vary(sample.leaf))


def draw(sample):
    pen = Pen(sample)
    pen.paper()
    offsets = {1: [0], 2: [-110, 120], 3: [-180, 20, 190]}[sample.stems]
    for index, offset in enumerate(offsets):
        pen.plant(offset, (560, 520, 560)[index] - 60 * (index % 2) + pen.random.uniform(-20, 20))
    # The lens is never quite sharp.
    return pen.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).filter(ImageFilter.SMOOTH)
