from time import (
    CLOCK_BOOTTIME as CLOCK_BOOTTIME, CLOCK_MONOTONIC as CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW as CLOCK_MONOTONIC_RAW,
    CLOCK_PROCESS_CPUTIME_ID as CLOCK_PROCESS_CPUTIME_ID, CLOCK_REALTIME as CLOCK_REALTIME, CLOCK_TAI as CLOCK_TAI,
    CLOCK_THREAD_CPUTIME_ID as CLOCK_THREAD_CPUTIME_ID, altzone as altzone, asctime as asctime,
    clock_getres as clock_getres, clock_gettime as clock_gettime, clock_gettime_ns as clock_gettime_ns,
    clock_settime as clock_settime, clock_settime_ns as clock_settime_ns, ctime as ctime, daylight as daylight,
    get_clock_info as get_clock_info, gmtime as gmtime, localtime as localtime, mktime as mktime,
    monotonic as monotonic, monotonic_ns as monotonic_ns, perf_counter as perf_counter,
    perf_counter_ns as perf_counter_ns, process_time as process_time, process_time_ns as process_time_ns,
    pthread_getcpuclockid as pthread_getcpuclockid, strftime as strftime, strptime as strptime,
    struct_time as struct_time, thread_time as thread_time, thread_time_ns as thread_time_ns, time as time,
    time_ns as time_ns, timezone as timezone, tzname as tzname, tzset as tzset,
)  # fmt: skip

def sleep(seconds: float = ..., ref: bool = ...) -> None: ...
