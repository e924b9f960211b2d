"""Threads that send requests at once; what they come to arrives in the order in which it is done."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class RequestThreads(Generic[Task, Result]):
    """Does tasks in several threads.

    The threads end with the process, so that an interrupt waits for none of them.

    Args:
        do: called with each task, from any of the threads.
        size: of the pool.
    """

    def __init__(self, do: Callable[[Task], Result], size: int) -> None:
        self._do = do
        self._size = size

    def done(
        self, tasks: Sequence[Task], stopped: threading.Event
    ) -> Iterator[tuple[int, Result | Exception]]:
        """Yield the index and the result of each task once it is done, or the exception that it raised.

        No task is begun after `stopped` is set; the rest is not yielded then.
        """
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        finished: queue.SimpleQueue[tuple[int, Result | Exception] | None] = queue.SimpleQueue()
        for index in range(len(tasks)):
            waiting.put(index)

        def work() -> None:
            while not stopped.is_set():
                try:
                    index = waiting.get_nowait()
                except queue.Empty:
                    break
                try:
                    finished.put((index, self._do(tasks[index])))
                except Exception as error:
                    finished.put((index, error))
            finished.put(None)

        size = min(self._size, len(tasks))
        for _ in range(size):
            threading.Thread(target=work, daemon=True).start()
        while size:
            item = finished.get()
            if item is None:
                size -= 1
            else:
                yield item
