#!/usr/bin/env bash
# How well veintrack runs on this machine, in one file to send back; see --help.

set -u -o pipefail

help() {
    cat <<'HELP'
Measure veintrack on this machine, a Jetson, a PC with an NVIDIA GPU or a plain CPU, and write what
was found into one file to send back.

    bash benchmarks/hardware.sh [options]

It makes a virtual environment of its own in .venv-hardware and installs veintrack there: on a PC
with an NVIDIA driver with TensorRT-RTX; on a Jetson with the system's own TensorRT. Then it runs
`veintrack doctor`, with an NVIDIA GPU `veintrack build` on it, the tests that need a GPU, and
`veintrack bench` over all engines and precisions and in real time. A part that fails is recorded,
and the rest goes on.

Options
  --output FILE         the report [veintrack-hardware-report.tar.gz]
  --venv DIR            use this virtual environment as it is; nothing is installed
  --python PROGRAM      make the virtual environment with this Python [python3]
  --max-minutes N       end what is not done after so long; installing does not count [30]
  --realtime-minutes N  length of the part in real time; memory is judged from 3 on [1]
  -h, --help            this text

The report says what the machine is and how it is set: processor, memory, GPU, clocks, power mode,
driver and library versions. It holds no host name, no user name, no serial number, and no path of
your home folder; look into it before you send it. The exit code is 1 if a part failed.
HELP
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
output="veintrack-hardware-report.tar.gz"
venv=
base_python=python3
max_minutes=30
realtime_minutes=1

refuse() {
    echo "hardware.sh: $1" >&2
    exit 2
}

while (($#)); do
    case $1 in
        -h | --help)
            help
            exit
            ;;
        --output | --venv | --python | --max-minutes | --realtime-minutes)
            (($# > 1)) || refuse "$1 needs a value"
            case $1 in
                --output) output=$2 ;;
                --venv) venv=$2 ;;
                --python) base_python=$2 ;;
                --max-minutes) max_minutes=$2 ;;
                --realtime-minutes) realtime_minutes=$2 ;;
            esac
            shift 2
            ;;
        *) refuse "unknown option $1; see --help" ;;
    esac
done
for minutes in "$max_minutes" "$realtime_minutes"; do
    [[ $minutes =~ ^[1-9][0-9]*$ ]] || refuse "minutes must be a whole number from 1, got $minutes"
done
if [[ -n $venv ]]; then
    [[ -x $venv/bin/python ]] || refuse "$venv is no virtual environment: it has no bin/python"
    venv=$(cd "$venv" && pwd)
fi
mkdir -p "$(dirname "$output")" && [[ ! -d $output ]] || refuse "cannot write $output"
output=$(cd "$(dirname "$output")" && pwd)/$(basename "$output")

work=$(mktemp -d)
report=$work/veintrack-hardware-report
mkdir "$report"
sensors_pid=
# shellcheck disable=SC2317,SC2329 # the trap calls it
clean_up() {
    [[ -z $sensors_pid ]] || kill "$sensors_pid" 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT

parts=()
failed=0

# note NAME RESULT SECONDS: one part is done.
note() {
    parts+=("{\"part\": \"$1\", \"result\": \"$2\", \"seconds\": $3}")
    [[ $2 == ok* || $2 == skipped* ]] || failed=1
    printf '%-10s %s (%s s)\n' "$1" "$2" "$3"
}

# outcome FILE: how well a part went that did not fail; of tests, how many were left out.
outcome() {
    local skipped
    skipped=$(tail -n 1 "$1" | grep -Eo '[0-9]+ skipped.* in ' | grep -Eo '^[0-9]+ skipped')
    if [[ -z $skipped ]]; then
        echo ok
    elif tail -n 1 "$1" | grep -q ' passed'; then
        echo "ok, $skipped"
    elif has_gpu; then
        echo "failed: $skipped, none run"
    else
        echo "skipped: $skipped, none run"
    fi
}

# part NAME COMMAND...: run one part within the time that is left; its output goes into the report.
part() {
    local name=$1 began=$SECONDS left=$((deadline - SECONDS)) status
    shift
    if ((left <= 0)); then
        note "$name" "not run: no time left" 0
        return 1
    fi
    (cd "$root" && timeout --foreground -k 10 "$left" "$@") >"$report/$name.txt" 2>"$report/$name.log"
    status=$?
    case $status in
        0) note "$name" "$(outcome "$report/$name.txt")" $((SECONDS - began)) ;;
        124 | 137) note "$name" "stopped after $left s" $((SECONDS - began)) ;;
        *)
            note "$name" "failed with exit code $status" $((SECONDS - began))
            tail -n 3 "$report/$name.log" | sed 's/^/    /'
            ;;
    esac
    return $status
}

has() { command -v "$1" >/dev/null 2>&1; }

is_jetson() {
    [[ -e /etc/nv_tegra_release ]] || grep -qsi jetson /proc/device-tree/model
}

has_nvidia_driver() { has nvidia-smi && nvidia-smi -L >/dev/null 2>&1; }

has_gpu() { is_jetson || has_nvidia_driver; }

# The main version of CUDA that the driver knows: newer Python bindings would ask it for too much.
cuda_version() {
    if has_nvidia_driver; then
        nvidia-smi | sed -n 's/.*CUDA Version: *\([0-9]*\).*/\1/p' | head -n 1
    elif is_jetson; then
        grep -qs '^# R3[56]' /etc/nv_tegra_release && echo 12
    fi
}

install() {
    local extra='' pins=() site=() version
    venv=$root/.venv-hardware
    if is_jetson; then
        site=(--system-site-packages) # where the system keeps its TensorRT
        extra='[tensorrt]'            # on this processor without a TensorRT of its own
    elif has_nvidia_driver; then
        extra='[tensorrt]'
    fi
    if [[ -n $extra ]]; then
        version=$(cuda_version)
        [[ -z $version ]] || pins=("cuda-python<$((version + 1))")
    fi
    "$base_python" -m venv "${site[@]}" "$venv" &&
        "$venv/bin/python" -m pip install --upgrade pip &&
        "$venv/bin/python" -m pip install "$root$extra" 'pytest>=8.4' "${pins[@]}"
}

# show TITLE COMMAND...: one fact about the machine, where the command exists.
show() {
    local title=$1
    shift
    has "$1" || return 0
    printf '## %s\n' "$title"
    timeout 20 "$@" 2>&1 || true
    echo
}

gpu_facts=name,driver_version,compute_cap,memory.total,clocks.sm,clocks.max.sm,clocks.mem
gpu_facts+=,power.draw,power.limit,temperature.gpu

machine() {
    show kernel uname -srm
    show system sed -n 's/^PRETTY_NAME=//p' /etc/os-release
    show processor lscpu
    show memory free -m
    show load cat /proc/loadavg
    if is_jetson; then
        show board sed 's/\x00//g' /proc/device-tree/model
        show release head -n 1 /etc/nv_tegra_release
        show libraries dpkg-query -W 'nvidia-jetpack*' 'tensorrt*' 'libnvinfer*' 'cuda-toolkit*'
    fi
    show 'power mode' nvpmodel -q
    show clocks jetson_clocks --show
    show gpu nvidia-smi "--query-gpu=$gpu_facts" --format=csv
    show commit git -C "$root" describe --always --dirty
}

# Note clocks, power and temperature once a second, while what comes next runs.
watch_sensors() {
    if has tegrastats; then
        tegrastats --interval 1000 >"$report/sensors.txt" 2>&1 &
    elif has_nvidia_driver; then
        nvidia-smi "--query-gpu=timestamp,$gpu_facts,utilization.gpu" --format=csv -l 1 \
            >"$report/sensors.txt" 2>&1 &
    else
        return 0
    fi
    sensors_pid=$!
}

stop_sensors() {
    [[ -n $sensors_pid ]] || return 0
    kill "$sensors_pid" 2>/dev/null
    wait "$sensors_pid" 2>/dev/null
    sensors_pid=
}

literally() { printf '%s' "$1" | sed 's/[]\/$*.^[]/\\&/g'; }

# Take out what names the user, the host, the folders, and single devices.
scrub() {
    local user script='s/by-id\/[^" ]*/by-id\/DEVICE/g;' home
    user=$(id -un)
    for home in "$HOME" "$(cd "$HOME" 2>/dev/null && pwd -P)"; do
        [[ ${#home} -lt 2 ]] || script+="s/$(literally "$home")/HOME/g;"
    done
    script="s/$(literally "$work")/WORK/g;s/$(literally "$root")/VEINTRACK/g;$script"
    [[ -z $venv ]] || script="s/$(literally "$venv")/VENV/g;$script"
    [[ $user == root ]] || script+="s/\\b$(literally "$user")\\b/USER/g;"
    script+="s/\\b$(literally "$(uname -n)")\\b/HOST/g"
    find "$report" -type f -exec sed -i "$script" {} +
}

write_summary() {
    local joined
    joined=$(printf '%s,\n    ' "${parts[@]}")
    joined=${joined%,*}
    cat >"$report/report.json" <<JSON
{
  "written": "$(date -u +%Y-%m-%dT%H:%M:%SZ)",
  "machine": "$(uname -srm)",
  "parts": [
    $joined
  ]
}
JSON
}

# Read whole before it starts: an edit of this file meanwhile changes nothing.
main() {
    local began
    machine >"$report/machine.txt"
    if [[ -z $venv ]]; then
        echo "installing veintrack into $root/.venv-hardware: this takes minutes"
        began=$SECONDS
        if install >"$report/install.txt" 2>"$report/install.log"; then
            note install ok $((SECONDS - began))
        else
            note install "failed: see install.log" $((SECONDS - began))
            tail -n 3 "$report/install.log" | sed 's/^/    /'
        fi
    fi

    deadline=$((SECONDS + 60 * max_minutes))
    veintrack=$venv/bin/veintrack
    if [[ -x $veintrack ]]; then
        part libraries "$venv/bin/python" -m pip list --format=freeze
        part doctor "$veintrack" doctor --json
        ! has_gpu || part build "$veintrack" build --device cuda # never falls back to the CPU
        part gpu_tests "$venv/bin/python" -m pytest -q -rs -p no:cacheprovider \
            tests/engines/test_tensorrt_gpu.py
        watch_sensors
        echo 'measuring: leave the machine alone meanwhile'
        part realtime "$veintrack" bench --rate 30 --minutes "$realtime_minutes" \
            --json "$report/realtime.json"
        # By the clock: a GPU is 50 times as fast as a small processor.
        part engines "$veintrack" bench --engine all --precision all --minutes 0.15 --repetitions 3 \
            --json "$report/engines.json"
        stop_sensors
    elif [[ -e $venv/bin/python ]]; then
        note veintrack 'failed: it is not in the virtual environment' 0
    fi

    write_summary
    scrub
    if ! tar -C "$work" --owner=0 --group=0 --numeric-owner -czf "$output" veintrack-hardware-report; then
        echo "hardware.sh: cannot write $output" >&2
        exit 1
    fi
    echo "written: $output, which contains"
    tar -tzf "$output" | grep -v '/$' | sed 's/^/    /'
    ((failed == 0)) || echo 'a part failed: the report says which, and is of use all the same'
    exit $failed
}

main
