import type { Command, Option } from 'commander'
import { nearest } from '../../base/nearest.ts'
import { FAILURES } from '../../domain/failures.ts'
import type { CliDeps } from '../deps.ts'
import type { Output } from '../output.ts'
import { usageFailure } from '../usage.ts'
import { TOPICS } from './help.ts'

const SHELLS = ['bash', 'zsh', 'fish'] as const

/** Runs that are offered where a run is asked for. */
const RUNS_OFFERED = 30
/** Whoever presses a key waits no longer than this for a server. */
const ASK_MS = 800

/** Says to the shell's script that file names fit. */
const FILES = ':files'

const RUN_STATES = ['pending', 'running', 'waiting', 'succeeded', 'failed', 'canceled']
/** Values of options, by the option's long name. */
const VALUES: Record<string, readonly string[]> = {
  '--state': RUN_STATES,
  '--store': ['embedded', 'postgres'],
  '--log-format': ['text', 'json'],
  '--log-level': ['debug', 'info', 'warn', 'error'],
}

/** `orrery completion SHELL`: the script that a shell loads. It asks `orrery __complete` for what fits, so that it never gets old. */
export function printCompletion(output: Output, shell: string): number {
  const script = SCRIPTS[shell]
  if (script === undefined) {
    const near = nearest(shell, SHELLS)
    throw usageFailure(
      `${shell} is no shell that completion is made for`,
      `${near ? `Did you mean ${near}? ` : ''}Shells are ${SHELLS.join(', ')}.`,
    )
  }
  output.print(script)
  return 0
}

/** What may stand where the last of `words` is: one candidate a line, `value<TAB>what it is`. Never fails: a shell has no place for that. */
export async function complete(
  deps: CliDeps,
  output: Output,
  program: Command,
  words: readonly string[],
): Promise<number> {
  const current = words.at(-1) ?? ''
  const { command, position, option } = placeOf(program, words.slice(0, -1))
  const candidates = await candidatesAt(deps, { command, position, option, current })
  for (const candidate of candidates) if (candidate.startsWith(current) || candidate === FILES) output.print(candidate)
  return 0
}

interface Place {
  command: Command
  /** Which of the command's arguments comes next. */
  position: number
  /** The option whose value comes next. */
  option: Option | null
}

/** Where the words lead. */
function placeOf(program: Command, words: readonly string[]): Place {
  let command = program
  let position = 0
  let option: Option | null = null
  for (const word of words) {
    if (option) {
      option = null
    } else if (word.startsWith('-')) {
      const found = [...command.options, ...program.options].find((o) => o.long === word || o.short === word)
      option = found && (found.required || found.optional) ? found : null
    } else {
      const next = command.commands.find((c) => c.name() === word)
      if (next && position === 0) command = next
      else position += 1
    }
  }
  return { command, position, option }
}

async function candidatesAt(deps: CliDeps, at: Place & { current: string }): Promise<string[]> {
  const { command, option, current } = at
  if (option) return [...(option.argChoices ?? VALUES[option.long ?? ''] ?? [FILES])]
  if (current.startsWith('-')) {
    return command.options
      .filter((o) => !o.hidden && o.long)
      .map((o) => `${o.long}\t${o.description}`)
      .concat('--help\tprint help', '--color\tauto, always or never')
  }
  const names = command.commands.filter((c) => !c.name().startsWith('__')).map((c) => `${c.name()}\t${c.summary()}`)
  if (names.length > 0) return names
  const last = command.registeredArguments.at(-1)
  const argument = command.registeredArguments[at.position] ?? (last?.variadic ? last : undefined)
  if (command.name() === 'help') return at.position === 0 ? helpWords(command.parent) : []
  switch (argument?.name()) {
    case 'run':
    case 'runs':
      return runIds(deps)
    case 'what':
      if (current.startsWith('run/')) return (await runIds(deps)).map((run) => `run/${run}`)
      return Object.entries(FAILURES).map(([code, row]) => `${code}\t${row.title}`)
    case 'shell':
      return [...SHELLS]
    case undefined:
      return []
    default:
      return [FILES]
  }
}

/** Commands and topics. */
const helpWords = (program: Command | null): string[] => [
  ...Object.keys(TOPICS).map((topic) => `${topic}\ttopic`),
  ...(program?.commands ?? []).filter((c) => !c.name().startsWith('__')).map((c) => `${c.name()}\t${c.summary()}`),
]

async function runIds(deps: CliDeps): Promise<string[]> {
  const enough = new AbortController()
  try {
    const asked = deps.connect({}).then((client) => client.listRuns({ limit: RUNS_OFFERED }))
    asked.catch(() => {}) // too late, or there is no server: then nothing is offered
    const page = await Promise.race([asked, deps.clock.sleep(ASK_MS, enough.signal).then(() => null)])
    return (page?.items ?? []).map((run) => `${run.id}\t${run.workflow} ${run.state}`)
  } catch {
    return []
  } finally {
    enough.abort()
  }
}

const SCRIPTS: Record<string, string> = {
  bash: `# Completion of orrery for bash: source <(orrery completion bash)
_orrery() {
  local IFS=$'\\n' line files=
  COMPREPLY=()
  while IFS= read -r line; do
    if [ "$line" = ":files" ]; then files=1; else COMPREPLY+=("\${line%%$'\\t'*}"); fi
  done < <(orrery __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  if [ -n "$files" ]; then compopt -o filenames; COMPREPLY+=($(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}")); fi
}
complete -F _orrery orrery`,
  zsh: `#compdef orrery
# Completion of orrery for zsh: source <(orrery completion zsh)
_orrery() {
  local line files; local -a found
  while IFS= read -r line; do
    if [[ $line == ':files' ]]; then files=1; else found+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}"); fi
  done < <(orrery __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  (( \${#found} )) && _describe orrery found
  [[ -n $files ]] && _files
}
compdef _orrery orrery`,
  fish: `# Completion of orrery for fish: orrery completion fish | source
function __orrery_complete
  set -l words (commandline -opc) (commandline -ct)
  for line in (orrery __complete -- $words[2..-1] 2>/dev/null)
    if test "$line" = ":files"
      __fish_complete_path (commandline -ct)
    else
      echo $line
    end
  end
end
complete -c orrery -f -a '(__orrery_complete)'`,
}
