"""An object in a room with known factors, after the factors of 3D Shapes (Burgess & Kim 2018), ray-cast by our own
code: floor, wall and object hue, scale, shape (cube, cylinder, sphere, capsule), orientation. The pixels are ours.

Colours only multiply what the geometry says, so for each (scale, shape, orientation) the light that each of the three
materials sends to each pixel is computed once; an image is that times three colours. All of it is sums, products and
roots in a fixed order, which every processor rounds alike.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from latentbench.data.generated.grid import Grid, rendered_columns, stored_columns
from latentbench.declare import generator

SHAPES = ("cube", "cylinder", "sphere", "capsule")
_FINE = 2  # rays a pixel and axis
_BLOCK = 64
_WALL = 3.2  # distance of the four walls from the middle
_EYE = (2.9, 1.75)  # distance and height of the eye
_LIGHT = np.array([0.35, 0.85, 0.4], np.float32) / np.float32(np.sqrt(0.35**2 + 0.85**2 + 0.4**2))
_AMBIENT = np.float32(0.35)
_FAR = np.float32(1e9)

Rays = tuple[np.ndarray, np.ndarray]
Hit = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Rooms:
    """The grid of images (side, side, 3).

    Attributes:
        side: image height and width in pixels.
        hues: number of hues of floor, wall and object, evenly round the colour circle.
        scales: number of sizes, from 0.75 to 1.25.
        orientations: number of camera azimuths, from -30 to 30 degrees.
    """

    side: int = 64
    hues: int = 10
    scales: int = 8
    orientations: int = 15
    grid: Grid = field(init=False)

    def __post_init__(self) -> None:
        sizes = (self.hues, self.hues, self.hues, self.scales, len(SHAPES), self.orientations)
        object.__setattr__(self, "grid", Grid(sizes))

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (self.side, self.side, 3)

    def render(self, factors: np.ndarray) -> np.ndarray:
        """Images of factor values (N, 6) int64 (floor, wall, object hue, scale, shape, orientation): uint8."""
        colours = np.array([colorsys.hsv_to_rgb(k / self.hues, 1, 1) for k in range(self.hues)], np.float32) * 255
        out = np.empty((len(factors), self.side * self.side, 3), np.uint8)
        for start in range(0, len(factors), _BLOCK):
            block = factors[start : start + _BLOCK]
            light = np.stack([_light(self, int(s), int(k), int(o)) for s, k, o in block[:, 3:]])
            shades = colours[block[:, :3]][:, :, None]
            image = light[..., :1] * shades[:, 0] + light[..., 1:2] * shades[:, 1] + light[..., 2:] * shades[:, 2]
            out[start : start + _BLOCK] = image + np.float32(0.5)
        return out.reshape(-1, self.side, self.side, 3)


@lru_cache(maxsize=4096)
def _light(rooms: Rooms, scale: int, shape: int, orientation: int) -> np.ndarray:
    """Light from floor, wall and object in each pixel: (side * side, 3) float32, each row summing to at most 1."""
    size = np.linspace(0.75, 1.25, rooms.scales)[scale] if rooms.scales > 1 else 1.0
    (eye, ray), behind, light = _empty_room(rooms.side, rooms.orientations, orientation)
    radius = np.float32(0.55 * size)
    middle = np.array([0, 1.2 * radius, 0], np.float32) - eye  # the object lies within 1.75 radii of this point
    along = _dot(ray, middle)
    seen = np.flatnonzero(_dot(middle, middle) - along * along < np.float32(1.75 * radius) ** 2)
    distance, normal = _object((eye, ray[seen]), SHAPES[shape], radius)
    front = distance < behind[seen]
    light = light.copy()
    light[seen[front]] = 0
    light[seen[front], 2] = _shade(normal[front])
    side = rooms.side
    return light.reshape(side, _FINE, side, _FINE, 3).mean((1, 3)).reshape(side * side, 3)


@lru_cache(maxsize=64)
def _empty_room(side: int, orientations: int, orientation: int) -> tuple[Rays, np.ndarray, np.ndarray]:
    """Rays, and for each the distance (R,) and the light (R, 3) of floor or wall."""
    azimuth = np.radians(np.linspace(-30, 30, orientations)[orientation]) if orientations > 1 else 0.0
    eye, ray = _camera(side, azimuth)
    wall, normal = _walls((eye, ray))
    floor = np.where(ray[:, 1] < 0, -eye[1] / np.minimum(ray[:, 1], np.float32(-1e-6)), _FAR)
    on_floor = floor < wall
    normal[on_floor] = (0, 1, 0)
    light = np.zeros((len(ray), 3), np.float32)
    light[np.arange(len(ray)), np.where(on_floor, 0, 1)] = _shade(normal)
    return (eye, ray), np.minimum(floor, wall), light


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner products of (..., 3) and (3,) float32, as float32.

    Term by term, each product exact in float64 and each sum rounded: what a BLAS gives depends on the processor.
    """
    wide, other = a.astype(np.float64), b.astype(np.float64)
    total: np.ndarray = (wide[..., 0] * other[0]).astype(np.float32)
    for i in (1, 2):
        total = (total + wide[..., i] * other[i]).astype(np.float32)
    return total


def _shade(normal: np.ndarray) -> np.ndarray:
    """Lambert's law with ambient light, (N, 3) -> (N,) in 0 .. 1."""
    return _AMBIENT + (1 - _AMBIENT) * np.clip(_dot(normal, _LIGHT), 0, 1)


def _camera(side: int, azimuth: float) -> Rays:
    """Eye (3,) and unit rays (R, 3) through the sub-pixels, row by row from the top; y points up."""
    steps = (np.arange(side * _FINE) + 0.5) / (side * _FINE) * 2 - 1
    u, v = np.meshgrid(steps, -steps)
    distance, height = _EYE
    eye = np.array([distance * np.sin(azimuth), height, distance * np.cos(azimuth)])
    ahead = np.array([0, 0.55, 0]) - eye
    ahead /= np.sqrt((ahead * ahead).sum())
    right = np.cross(ahead, [0, 1, 0])
    right /= np.sqrt((right * right).sum())
    up = np.cross(right, ahead)
    spread = np.tan(np.radians(29))
    ray = ahead + spread * (u[..., None] * right + v[..., None] * up)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    return eye.astype(np.float32), ray.reshape(-1, 3).astype(np.float32)


def _walls(rays: Rays) -> Hit:
    """Distance to the walls, which rise without end, and the inward normals."""
    eye, ray = rays
    best, normal = np.full(len(ray), _FAR), np.zeros((len(ray), 3), np.float32)
    for axis in (0, 2):
        step = ray[:, axis]
        t = (np.sign(step) * np.float32(_WALL) - eye[axis]) / np.where(np.abs(step) < 1e-6, np.float32(1e-6), step)
        nearer = (t > 0) & (t < best)
        best = np.where(nearer, t, best)
        normal[nearer] = 0
        normal[nearer, axis] = -np.sign(step[nearer])
    return best, normal


def _object(rays: Rays, shape: str, r: np.float32) -> Hit:
    """Distance to an object that stands in the middle of the floor, about 2 r wide and high, and its normals."""
    if shape == "cube":
        return _box(rays, np.float32(0.85) * r)
    if shape == "sphere":
        return _sphere(rays, r, r)
    if shape == "cylinder":
        return _nearest(
            _tube(rays, np.float32(0.85) * r, np.float32(0), 2 * r), _disc(rays, np.float32(0.85) * r, 2 * r)
        )
    thin = np.float32(0.65) * r
    tall = np.float32(2.4) * r
    body = _tube(rays, thin, thin, tall - thin)
    return _nearest(body, _nearest(_sphere(rays, thin, thin), _sphere(rays, thin, tall - thin)))


def _nearest(a: Hit, b: Hit) -> Hit:
    first = a[0] <= b[0]
    return np.where(first, a[0], b[0]), np.where(first[:, None], a[1], b[1])


def _sphere(rays: Rays, r: np.float32, height: np.float32) -> Hit:
    eye, ray = rays
    offset = eye - np.array([0, height, 0], np.float32)
    b = _dot(ray, offset)
    root = b * b - (_dot(offset, offset) - r * r)
    t = np.where(root > 0, -b - np.sqrt(np.maximum(root, 0)), _FAR)
    return t, (offset + ray * t[:, None]) / r


def _tube(rays: Rays, r: np.float32, low: np.float32, high: np.float32) -> Hit:
    eye, ray = rays
    a = np.maximum(ray[:, 0] ** 2 + ray[:, 2] ** 2, 1e-9)
    b = ray[:, 0] * eye[0] + ray[:, 2] * eye[2]
    root = b * b - a * (eye[0] ** 2 + eye[2] ** 2 - r * r)
    t = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, _FAR)
    y = eye[1] + t * ray[:, 1]
    t = np.where((y >= low) & (y <= high), t, _FAR)
    normal = (eye + ray * t[:, None]) / r
    normal[:, 1] = 0
    return t, normal


def _disc(rays: Rays, r: np.float32, height: np.float32) -> Hit:
    eye, ray = rays
    t = (height - eye[1]) / np.minimum(ray[:, 1], -1e-6)
    x, z = eye[0] + t * ray[:, 0], eye[2] + t * ray[:, 2]
    t = np.where((ray[:, 1] < 0) & (x * x + z * z <= r * r), t, _FAR)
    return t, np.broadcast_to(np.array([0, 1, 0], np.float32), ray.shape)


def _box(rays: Rays, half: np.float32) -> Hit:
    eye, ray = rays
    step = np.where(np.abs(ray) < 1e-6, np.float32(1e-6), ray)
    centre = np.array([0, half, 0], np.float32)
    near = (centre - np.sign(step) * half - eye) / step
    far = (centre + np.sign(step) * half - eye) / step
    axis = near.argmax(1)
    t = near.max(1)
    t = np.where((t > 0) & (t <= far.min(1)), t, _FAR)
    rows = np.arange(len(ray))
    normal = np.zeros_like(ray)
    normal[rows, axis] = -np.sign(step[rows, axis])
    return t, normal


@generator("rooms")
def rendered(rows: int, side: int, hues: int, scales: int, orientations: int) -> dict[str, Any]:
    """All images of the grid, made when they are asked for."""
    return rendered_columns(Rooms(side, hues, scales, orientations), rows)


@generator("rooms-subset")
def subset(
    rows: int, _rng: np.random.Generator, side: int, hues: int, scales: int, orientations: int, first: int
) -> dict[str, np.ndarray]:
    """`rows` images of the grid, from place `first` of its shuffling on."""
    return stored_columns(Rooms(side, hues, scales, orientations), rows, first)


def forget() -> None:
    """Drop what was computed so far, as in a fresh process."""
    _light.cache_clear()
    _empty_room.cache_clear()
