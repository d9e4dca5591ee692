"""Workers that take jobs from a bounded queue, with a time limit for each job.

    python workers.py

The boss waits while the queue is full. Prints what was done and what took too long.
"""
import weald
from weald.queue import JoinableQueue

LIMIT = 0.05


def work(jobs, results):
    while True:
        number = jobs.get()
        try:
            with weald.Timeout(LIMIT):
                weald.sleep(0.2 if number % 10 == 9 else 0.01)
            results.append((number, "done"))
        except weald.Timeout:
            results.append((number, "too long"))
        finally:
            jobs.task_done()


def main():
    jobs, results = JoinableQueue(maxsize=5), []
    workers = [weald.spawn(work, jobs, results) for _ in range(4)]
    for number in range(40):
        jobs.put(number)
    jobs.join()
    weald.killall(workers)
    late = sorted(number for number, what in results if what == "too long")
    print(f"{len(results)} jobs, too long: {late}")


if __name__ == "__main__":
    main()
