"""Actors: each has an inbox and handles one message at a time, so what it owns needs no lock.

    python actors.py

Sawyers cut logs that foresters fell; a yard counts the planks. Prints how many there are.
"""
import weald
from weald.queue import Queue


class Actor(weald.Greenlet):
    """Calls receive(message) for each message of its inbox, until it is told to stop."""

    STOP = object()

    def __init__(self):
        super().__init__()
        self.inbox = Queue()

    def _run(self):
        for message in iter(self.inbox.get, Actor.STOP):
            self.receive(message)

    def tell(self, message):
        self.inbox.put(message)


class Sawyer(Actor):
    def __init__(self, yard):
        super().__init__()
        self.yard = yard

    def receive(self, log):
        weald.sleep(0.01)
        self.yard.tell(log * 4)


class Yard(Actor):
    planks = 0

    def receive(self, planks):
        self.planks += planks


def main():
    yard = Yard()
    sawyers = [Sawyer(yard) for _ in range(5)]
    for actor in [yard, *sawyers]:
        actor.start()
    for log in range(20):
        sawyers[log % 5].tell(1)
    for sawyer in sawyers:
        sawyer.tell(Actor.STOP)
    weald.joinall(sawyers)
    yard.tell(Actor.STOP)
    yard.join()
    print(f"{yard.planks} planks")


if __name__ == "__main__":
    main()
