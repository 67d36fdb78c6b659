"""A school: students join a course, do lesson after lesson, keep a streak, and are graded.

The course's room shows the teacher how the class comes along. Praise is `low` and collapses, for there will be more of
it tomorrow; a grade is `normal`; an exam that is moved at the last minute is `critical`, for some are on their way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.demo.cast import DANYLO, EMMA, IRYNA, LEO, LUCAS, MIA, SOFIA, Person
from ops.demo.story import Notify, Say, Scene, Step, Story

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_COURSE, _ROOM = "Algebra", "learning:course:algebra"
_TEACHER = SOFIA
_STUDENTS = (MIA, DANYLO, IRYNA, LUCAS, EMMA, LEO)
_LESSONS = 3
_PASSED = 60


def produce(scene: Scene) -> Iterator[Step]:
    """Teach one course to six students, again and again, with an exam now and then."""
    return scene.tell(_stories(scene), at_once=3, every_s=1.35)


def _stories(scene: Scene) -> Iterator[Story]:
    while True:
        yield from (_student(scene, student) for student in scene.random.sample(_STUDENTS, len(_STUDENTS)))
        yield _exam(scene)


def _student(scene: Scene, student: Person) -> Story:
    welcome = student.reads(f"Welcome to {_COURSE}", uk="Вітаємо на курсі алгебри")
    yield [_seen("student.joined", student), _tell([student], "course.joined", welcome, actor=_TEACHER.actor)]
    for lesson in range(1, _LESSONS + 1):
        streak = student.reads(f"{lesson} in a row!", uk=f"Уроків поспіль: {lesson}")
        yield [
            _seen("lesson.done", student, lesson=lesson),
            _tell([student], "streak.grown", streak, priority="low", collapse_key="streak"),
        ]
    grade = scene.random.randint(40, 100)
    while grade < _PASSED:
        again = student.reads(f"{grade} of 100: please try again", uk=f"{grade} зі 100: спробуйте ще раз")
        yield [
            _seen("test.graded", student, grade=grade),
            _tell([student], "test.failed", again, priority="high", body="You may repeat it until Friday."),
        ]
        grade = scene.random.randint(grade, 100)
    yield [
        _seen("test.graded", student, grade=grade),
        _tell([student], "test.passed", f"{grade} of 100: passed", actor=_TEACHER.actor),
    ]
    yield [
        _seen("certificate.issued", student),
        _tell([_TEACHER], "certificate.issued", f"{student.name} has finished {_COURSE}", actor=student.actor),
    ]


def _exam(scene: Scene) -> Story:
    room, instead = scene.random.sample(range(101, 130), 2)
    yield [
        Say(_ROOM, "exam.announced", {"room": room}),
        _tell(_STUDENTS, "exam.announced", f"The exam is today in room {room}", priority="high"),
    ]
    yield [
        Say(_ROOM, "exam.moved", {"room": instead}),
        _tell(_STUDENTS, "exam.moved", f"The exam is now in room {instead}", priority="critical"),
    ]
    yield [Say(_ROOM, "exam.ended", {"room": instead})]


def _seen(event: str, student: Person, **more: int) -> Say:
    return Say(_ROOM, event, {"student": student.id, **more})


def _tell(whom: Sequence[Person], what: str, title: str, **more: Any) -> Notify:  # noqa: ANN401  # JSON is anything
    return Notify(
        {
            "to": {"users": [person.id for person in whom]},
            "type": f"learning.{what}",
            "title": title,
            "data": {"course": "algebra"},
            "action_url": "/courses/algebra",
            **more,
        }
    )
