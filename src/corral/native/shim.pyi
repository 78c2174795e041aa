"""What the shim offers, with types. Made from csrc/*.h by csrc/declarations.py: do not change it by hand, but run
`make declarations`. Pointers and structures are cffi cdata."""

from typing import Any

CData = Any  # cffi gives no static types for C structures

class Lib:
    # decl/capabilities.h
    KVM_CAP_IRQCHIP: int
    KVM_CAP_USER_MEMORY: int
    KVM_CAP_SET_TSS_ADDR: int
    KVM_CAP_EXT_CPUID: int
    KVM_CAP_NR_VCPUS: int
    KVM_CAP_MAX_VCPUS: int
    KVM_CAP_MAX_VCPU_ID: int
    KVM_CAP_NR_MEMSLOTS: int
    KVM_CAP_MP_STATE: int
    KVM_CAP_SYNC_MMU: int
    KVM_CAP_SET_GUEST_DEBUG: int
    KVM_CAP_GUEST_DEBUG_HW_BPS: int
    KVM_CAP_SET_GUEST_DEBUG2: int
    KVM_CAP_IRQFD: int
    KVM_CAP_IRQFD_RESAMPLE: int
    KVM_CAP_IOEVENTFD: int
    KVM_CAP_PIT2: int
    KVM_CAP_ADJUST_CLOCK: int
    KVM_CAP_VCPU_EVENTS: int
    KVM_CAP_XSAVE: int
    KVM_CAP_XCRS: int
    KVM_CAP_TSC_CONTROL: int
    KVM_CAP_GET_TSC_KHZ: int
    KVM_CAP_TSC_DEADLINE_TIMER: int
    KVM_CAP_READONLY_MEM: int
    KVM_CAP_ENABLE_CAP_VM: int
    KVM_CAP_SYNC_REGS: int
    KVM_CAP_IMMEDIATE_EXIT: int
    KVM_CAP_SPLIT_IRQCHIP: int
    KVM_CAP_X2APIC_API: int
    KVM_CAP_X86_USER_SPACE_MSR: int
    KVM_CAP_EXIT_ON_EMULATION_FAILURE: int
    KVM_CAP_DIRTY_LOG_RING: int
    KVM_CAP_BINARY_STATS_FD: int
    KVM_CAP_NESTED_STATE: int

    # decl/debug.h
    KVM_SET_GUEST_DEBUG: int
    KVM_GET_XSAVE: int
    KVM_SET_XSAVE: int
    KVM_GUESTDBG_ENABLE: int
    KVM_GUESTDBG_SINGLESTEP: int
    KVM_GUESTDBG_USE_SW_BP: int
    KVM_GUESTDBG_USE_HW_BP: int
    KVM_GUESTDBG_INJECT_DB: int
    KVM_GUESTDBG_INJECT_BP: int
    KVM_GUESTDBG_BLOCKIRQ: int

    # decl/kvm.h
    KVM_GET_API_VERSION: int
    KVM_CREATE_VM: int
    KVM_CHECK_EXTENSION: int
    KVM_GET_VCPU_MMAP_SIZE: int
    KVM_GET_SUPPORTED_CPUID: int
    KVM_CREATE_VCPU: int
    KVM_SET_USER_MEMORY_REGION: int
    KVM_SET_TSS_ADDR: int
    KVM_SET_IDENTITY_MAP_ADDR: int
    KVM_CREATE_IRQCHIP: int
    KVM_CREATE_PIT2: int
    KVM_GET_PIT2: int
    KVM_SET_PIT2: int
    KVM_IRQ_LINE: int
    KVM_IRQFD: int
    KVM_IOEVENTFD: int
    KVM_IOEVENTFD_FLAG_DATAMATCH: int
    KVM_IOEVENTFD_FLAG_DEASSIGN: int
    KVM_ENABLE_CAP: int
    KVM_RUN: int
    KVM_GET_REGS: int
    KVM_SET_REGS: int
    KVM_GET_SREGS: int
    KVM_GET_VCPU_EVENTS: int
    KVM_SET_SREGS: int
    KVM_GET_MSRS: int
    KVM_SET_MSRS: int
    KVM_SET_CPUID2: int
    KVM_GET_LAPIC: int
    KVM_GET_STATS_FD: int
    KVM_SET_LAPIC: int
    KVM_GET_MP_STATE: int
    KVM_SET_MP_STATE: int
    KVM_GET_TSC_KHZ: int
    KVM_EXIT_UNKNOWN: int
    KVM_EXIT_IO: int
    KVM_EXIT_HYPERCALL: int
    KVM_EXIT_DEBUG: int
    KVM_EXIT_HLT: int
    KVM_EXIT_MMIO: int
    KVM_EXIT_IRQ_WINDOW_OPEN: int
    KVM_EXIT_SHUTDOWN: int
    KVM_EXIT_FAIL_ENTRY: int
    KVM_EXIT_INTR: int
    KVM_EXIT_INTERNAL_ERROR: int
    KVM_EXIT_SYSTEM_EVENT: int
    KVM_EXIT_IOAPIC_EOI: int
    KVM_EXIT_IO_IN: int
    KVM_EXIT_IO_OUT: int
    KVM_SIGNAL_MSI: int

    # decl/kvm_state.h
    KVM_GET_MSR_INDEX_LIST: int
    KVM_GET_XCRS: int
    KVM_SET_XCRS: int
    KVM_GET_DEBUGREGS: int
    KVM_SET_DEBUGREGS: int
    KVM_SET_VCPU_EVENTS: int
    KVM_GET_IRQCHIP: int
    KVM_SET_IRQCHIP: int
    KVM_GET_CLOCK: int
    KVM_SET_CLOCK: int

    # bus.h
    CORRAL_BUS_RANGES: int
    def corral_bus_claim(self, b: CData, first: int, last: int, op: CData, device: CData, /) -> int: ...
    def corral_bus_constant(self, device: CData, write: bool, offset: int, size: int, value: CData, /) -> bool: ...
    def corral_finish_pio(self, v: CData, /) -> int: ...
    def corral_finish_mmio(self, v: CData, /) -> int: ...

    # exit_ring.h
    CORRAL_BY_C: int
    CORRAL_BY_ASSIST: int
    CORRAL_BY_PYTHON: int
    CORRAL_CPL_UNKNOWN: int
    def corral_exit_ring_create(self, size: int, with_cpl: bool, newest: bool, /) -> CData: ...
    def corral_exit_ring_destroy(self, ring: CData, /) -> None: ...
    def corral_exit_ring_select(self, ring: CData, reasons: int, /) -> None: ...
    def corral_exit_ring_take(self, ring: CData, records: CData, most: int, /) -> int: ...
    def corral_exit_ring_lost(self, ring: CData, /) -> int: ...
    def corral_exit_ring_flush(self, v: CData, /) -> None: ...

    # memory.h
    CORRAL_HIGH_BASE: int

    # vcpu.h
    CORRAL_EXIT_REASONS: int
    CORRAL_KICKED: int
    CORRAL_EXIT: int
    CORRAL_HOOKED: int
    CORRAL_ANY_HOOK: int
    def corral_vcpu_run(self, v: CData, /) -> int: ...
    def corral_vcpu_finish(self, v: CData, /) -> int: ...
    def corral_vcpu_kick(self, v: CData, /) -> None: ...
    def corral_vcpu_nudge(self, v: CData, /) -> None: ...
    def corral_vcpu_complete(self, v: CData, /) -> int: ...
    def corral_kick_init(self) -> int: ...
    def corral_ioctl(self, fd: int, request: int, arg: CData, /) -> int: ...
    def corral_host_cpuid(self, leaf: int, subleaf: int, out: CData, /) -> None: ...

    # assist.h
    CORRAL_LIDTS: int
    CORRAL_CLAC: int
    CORRAL_STAC: int
    CORRAL_SYSCALL: int
    CORRAL_INTERRUPT: int
    CORRAL_SAVE: int
    CORRAL_RESTORE: int
    CORRAL_XCR: int
    CORRAL_CMPXCHG: int
    CORRAL_TIME_STAMP: int
    CORRAL_BARRIER: int
    CORRAL_NATIVELY: int
    CORRAL_EXCEPTION: int
    CORRAL_COMPLETIONS: int
    def corral_assist_create(self) -> CData: ...
    def corral_assist_destroy(self, a: CData, /) -> None: ...
    def corral_assist_finish(self, v: CData, /) -> int: ...
    def corral_assist_shutdown(self, v: CData, /) -> int: ...
    def corral_assist_debug(self, v: CData, /) -> int: ...
    def corral_assist_watch(self, v: CData, lidt: bytes | CData, count: int, /) -> int: ...
    def corral_assist_watch_on(self, v: CData, lidt: bytes | CData, count: int, /) -> int: ...
    def corral_assist_watch_again(self, v: CData, on: bool, /) -> int: ...
    def corral_assist_state(self, v: CData, /) -> CData: ...
    def corral_assist_complete(self, v: CData, bytes: bytes | CData, size: int, /) -> int: ...

    # jail.h
    CORRAL_JAIL_STATUS: int
    CORRAL_JAIL_MAIN: int
    CORRAL_JAIL_VCPU: int
    CORRAL_JAIL_DISK: int
    CORRAL_JAIL_STREAM: int
    CORRAL_JAIL_CLERK: int
    def corral_jail_landlock_abi(self) -> int: ...
    def corral_jail_give_up(self, landlock: CData, /) -> int: ...
    def corral_jail_unshare(self) -> int: ...
    def corral_jail_hide(self) -> int: ...
    def corral_jail_tell(self) -> int: ...
    def corral_jail_filter(self, kind: int, all: bool, /) -> int: ...
    def corral_jail_enter(self, kind: int, /) -> int: ...

    # virtio_irq.h
    CORRAL_VIRTIO_QUEUES_MAX: int
    def corral_virtio_irq_init(self, irq: CData, fd: int, /) -> None: ...
    def corral_virtio_irq_used(self, irq: CData, queue: int, /) -> None: ...
    def corral_virtio_irq_config(self, irq: CData, /) -> None: ...
    def corral_virtio_irq_access(self, irq: CData, write: bool, offset: int, size: int, value: CData, /) -> bool: ...

    # virtq.h
    def corral_virtq_init(
        self, q: CData, ram: CData, size: int, desc: int, avail: int, used: int, event_idx: bool, indirect: bool, /
    ) -> int: ...
    def corral_virtq_resume(self, q: CData, /) -> None: ...
    def corral_virtq_pop(self, q: CData, chain: CData, /) -> int: ...
    def corral_virtq_in_flight(self, q: CData, /) -> int: ...
    def corral_virtq_has_more(self, q: CData, /) -> bool: ...
    def corral_virtq_push(self, q: CData, head: int, written: int, /) -> None: ...
    def corral_virtq_publish(self, q: CData, /) -> None: ...
    def corral_virtq_wants_interrupt(self, q: CData, /) -> bool: ...
    def corral_virtq_tell(self, q: CData, /) -> bool: ...
    def corral_virtq_listen(self, q: CData, /) -> bool: ...
    def corral_virtq_ignore(self, q: CData, /) -> None: ...

    # queue_worker.h
    CORRAL_CPU_WORDS: int
    CORRAL_WORKER_STOP_NS: int
    CORRAL_WORKER_HOLD_NS: int

    # blk.h
    CORRAL_BLK_URING: int
    CORRAL_BLK_THREADS: int
    CORRAL_BLK_NULL: int
    CORRAL_BLK_SEG_MAX: int
    CORRAL_BLK_RANGES_MAX: int
    CORRAL_BLK_RANGE_SECTORS_MAX: int
    CORRAL_BLK_CALL_MAX: int
    CORRAL_BLK_ALLOCATE_MAX: int
    CORRAL_BLK_IN_FLIGHT_MAX: int
    CORRAL_BLK_LATENCY_BUCKETS: int
    CORRAL_BLK_RECORD_ANSWER: int
    def corral_blk_create(self, config: CData, ram: CData, irq: CData, /) -> CData: ...
    def corral_blk_start(
        self, b: CData, features: int, queues: CData, doorbells: bytes | CData, saved: CData, /
    ) -> int: ...
    def corral_blk_hold(self, b: CData, /) -> int: ...
    def corral_blk_save(self, b: CData, saved: CData, /) -> None: ...
    def corral_blk_request_stop(self, b: CData, /) -> None: ...
    def corral_blk_stop(self, b: CData, /) -> int: ...
    def corral_blk_destroy(self, b: CData, /) -> int: ...
    def corral_blk_failed(self, b: CData, /) -> bool: ...
    def corral_blk_set_writeback(self, b: CData, on: bool, /) -> int: ...
    def corral_blk_stats(self, b: CData, index: int, stats: CData, /) -> int: ...
    def corral_blk_has_uring(self) -> bool: ...
    def corral_blk_uring_probe(self) -> int: ...
    def corral_blk_uring_try(self, operation: int, /) -> int: ...

    # instruction.h
    CORRAL_LEGACY: int
    CORRAL_VEX: int
    CORRAL_EVEX: int
    CORRAL_NONE: int
    CORRAL_66: int
    CORRAL_F3: int
    CORRAL_F2: int
    def corral_decode(self, i: CData, bytes: bytes | CData, size: int, regs: CData, sregs: CData, /) -> bool: ...

    # forms.h
    CORRAL_NO_MODRM: int
    CORRAL_IMMEDIATE: int
    CORRAL_NATIVE: int
    CORRAL_STORES: int
    CORRAL_NO_STATE: int
    CORRAL_GENERAL_REG: int
    CORRAL_GENERAL_RM: int
    CORRAL_GENERAL_VVVV: int
    CORRAL_FULL: int
    CORRAL_MMX: int
    CORRAL_REGISTER: int
    CORRAL_OPMASK: int
    CORRAL_ABSENT: int
    def corral_form_of(self, encoding: int, opcode: int, prefix: int, modrm: int, /) -> CData: ...
    def corral_runs_natively(self, i: CData, /) -> bool: ...

    # guest_mode.h
    CORRAL_MSR_NATIVE: int
    CORRAL_NATIVE_PAGE: int
    CORRAL_NATIVE_PAIRS: int
    CORRAL_NATIVE_IF: int
    CORRAL_NATIVE_USER: int
    def corral_native_mode(self, v: CData, /) -> int: ...
    def corral_guest_cpl(self, v: CData, sregs: CData, /) -> int: ...

    # ioapic.h
    CORRAL_IOAPIC_PINS: int
    def corral_ioapic_create(self, vm_fd: int, /) -> CData: ...
    def corral_ioapic_destroy(self, a: CData, /) -> None: ...
    def corral_ioapic_access(self, device: CData, write: bool, offset: int, size: int, value: CData, /) -> bool: ...
    def corral_ioapic_route(self, a: CData, /) -> int: ...
    def corral_ioapic_line(self, a: CData, pin: int, high: bool, /) -> int: ...
    def corral_ioapic_save(self, a: CData, state: CData, /) -> None: ...
    def corral_ioapic_restore(self, a: CData, state: CData, /) -> int: ...
    def corral_finish_ioapic_eoi(self, v: CData, /) -> int: ...

    # native_probe.h
    CORRAL_PROBE_PASSED: int
    CORRAL_PROBE_SIGNATURE: int
    CORRAL_PROBE_SWITCH: int
    CORRAL_PROBE_RATE: int
    CORRAL_PROBE_GS_BASE: int
    CORRAL_PROBE_KERNEL_FAULT: int
    CORRAL_PROBE_KERNEL_IRETQ: int
    CORRAL_PROBE_HELD: int
    CORRAL_PROBE_DELIVERED: int
    CORRAL_PROBE_TAKEN: int
    CORRAL_PROBE_HALT: int
    CORRAL_PROBE_IRETQ: int
    CORRAL_PROBE_READ: int
    CORRAL_PROBE_SYSRETQ: int
    CORRAL_PROBE_WRITE: int
    CORRAL_PROBE_FETCH: int
    CORRAL_PROBE_PRIVILEGED: int
    CORRAL_PROBE_FORGED_IRETQ: int
    CORRAL_PROBE_USER_PAGE: int
    CORRAL_PROBE_ADDRESS_SPACE: int
    CORRAL_PROBE_IRETQ_PENDING: int
    CORRAL_PROBE_SYSRETQ_PENDING: int
    CORRAL_PROBE_GS_EXCHANGE: int
    CORRAL_PROBE_OFF: int
    CORRAL_PROBE_KERNEL: int
    CORRAL_PROBE_RIP: int
    CORRAL_PROBE_CR3: int
    CORRAL_PROBE_PORT: int
    CORRAL_PROBE_CHECK: int
    CORRAL_PROBE_SEEN: int
    CORRAL_PROBE_EXPECTED: int
    CORRAL_PROBE_SIZE: int
    corral_native_probe: CData

    # native_switch.h
    CORRAL_NATIVE_SWITCH_CODE: int
    def corral_native_switch(self, v: CData, /) -> int: ...

    # numa.h
    def corral_memory_bind(self, address: int, length: int, node: int, strict: bool, /) -> int: ...
    def corral_memory_populate(self, address: int, length: int, /) -> int: ...

    # p9_message.h
    CORRAL_P9_MESSAGE_MAX: int

    # p9.h
    CORRAL_P9_QUEUE_SIZE: int
    def corral_p9_create(self, config: CData, ram: CData, irq: CData, /) -> CData: ...
    def corral_p9_start(
        self, p: CData, features: int, queues: CData, doorbells: bytes | CData, server_fd: int, /
    ) -> int: ...
    def corral_p9_request_stop(self, p: CData, /) -> None: ...
    def corral_p9_stop(self, p: CData, /) -> int: ...
    def corral_p9_destroy(self, p: CData, /) -> int: ...
    def corral_p9_failed(self, p: CData, /) -> bool: ...
    def corral_p9_answered(self, p: CData, /) -> int: ...
    def corral_p9_refused(self, p: CData, /) -> int: ...

    # perf.h
    def corral_perf_open(self, type: int, config: int, tid: int, guest_only: bool, /) -> int: ...

    # port_control.h
    CORRAL_PORTS_MAX: int
    CORRAL_PORT_NAME: int

    # ports.h
    def corral_ports_create(self, config: CData, ram: CData, irq: CData, /) -> CData: ...
    def corral_ports_start(
        self, p: CData, features: int, queues: CData, doorbells: bytes | CData, saved: CData, /
    ) -> int: ...
    def corral_ports_save(self, p: CData, saved: CData, /) -> None: ...
    def corral_ports_request_stop(self, p: CData, /) -> None: ...
    def corral_ports_stop(self, p: CData, /) -> int: ...
    def corral_ports_destroy(self, p: CData, /) -> int: ...
    def corral_ports_release(self, p: CData, /) -> None: ...
    def corral_ports_flush(self, p: CData, /) -> None: ...
    def corral_ports_flushed(self, p: CData, /) -> bool: ...
    def corral_ports_failed(self, p: CData, /) -> bool: ...
    def corral_ports_state(self, p: CData, port: int, state: CData, /) -> None: ...

    # ram_file.h
    def corral_ram_save(self, fd: int, offset: int, at: CData, length: int, all: bool, /) -> int: ...
    def corral_ram_save_behind(
        self,
        fd: int,
        offset: int,
        at: CData,
        length: int,
        all: bool,
        unfinished: bytes | CData,
        folder: bytes | CData,
        /,
    ) -> int: ...
    def corral_ram_map(self, at: CData, length: int, fd: int, offset: int, /) -> int: ...

    # rng.h
    CORRAL_RNG_MOST: int
    CORRAL_RNG_LEAST: int
    def corral_rng_create(self, config: CData, ram: CData, irq: CData, /) -> CData: ...
    def corral_rng_start(
        self, r: CData, features: int, queues: CData, doorbells: bytes | CData, resumes: bool, /
    ) -> int: ...
    def corral_rng_request_stop(self, r: CData, /) -> None: ...
    def corral_rng_stop(self, r: CData, /) -> int: ...
    def corral_rng_destroy(self, r: CData, /) -> int: ...
    def corral_rng_failed(self, r: CData, /) -> bool: ...
    def corral_rng_stats(self, r: CData, stats: CData, /) -> None: ...

    # sampler.h
    CORRAL_SAMPLE_STACK: int
    def corral_sampler_create(self, size: int, /) -> CData: ...
    def corral_sampler_destroy(self, sampler: CData, /) -> None: ...
    def corral_sampler_request(self, v: CData, /) -> None: ...
    def corral_sampler_next(self, sampler: CData, sample: CData, /) -> bool: ...
    def corral_sampler_lost(self, sampler: CData, /) -> int: ...

    # thread.h
    def corral_name_thread(self, name: bytes | CData, /) -> None: ...

    # trampoline.h
    CORRAL_WINDOW_SPAN: int
    CORRAL_STATE_REFUSED: int
    def corral_trampoline_create(self) -> CData: ...
    def corral_trampoline_destroy(self, t: CData, /) -> None: ...
    def corral_trampoline_regs(self, t: CData, /) -> CData: ...
    def corral_trampoline_xsave(self, t: CData, /) -> CData: ...
    def corral_trampoline_window(self, t: CData, address: int, first: bool, second: bool, /) -> CData: ...
    def corral_trampoline_run(self, t: CData, i: CData, operand: CData, features: int, fault: CData, /) -> bool: ...

    # uart.h
    def corral_uart_create(self, vm_fd: int, gsi: int, ioapic: CData, /) -> CData: ...
    def corral_uart_destroy(self, u: CData, /) -> None: ...
    def corral_uart_output_fd(self, u: CData, /) -> int: ...
    def corral_uart_drain(self, u: CData, buffer: CData, size: int, /) -> int: ...
    def corral_uart_offer(self, u: CData, data: bytes | CData, size: int, /) -> int: ...
    def corral_uart_room_fd(self, u: CData, /) -> int: ...
    def corral_uart_hang_up(self, u: CData, /) -> None: ...
    def corral_uart_stats(self, u: CData, stats: CData, /) -> None: ...
    def corral_uart_save(self, u: CData, state: CData, /) -> None: ...
    def corral_uart_restore(self, u: CData, state: CData, /) -> int: ...
    def corral_uart_pio(self, device: CData, write: bool, offset: int, size: int, value: CData, /) -> bool: ...

    # watch.h
    CORRAL_WATCHES: int
    def corral_finish_store(self, v: CData, /) -> int: ...

    # xsave.h
    CORRAL_XSAVE_SIZE: int
    CORRAL_XSAVE_LEGACY: int
    CORRAL_XSAVE_HEADER: int
    def corral_xsave_size(self, features: int, compacted: bool, /) -> int: ...
    def corral_xsave_put(
        self, state: bytes | CData, area: CData, requested: int, compacted: bool, optimise: bool, /
    ) -> None: ...
    def corral_xsave_take(
        self, state: CData, area: bytes | CData, requested: int, enabled: int, only_compacted: bool, /
    ) -> bool: ...
