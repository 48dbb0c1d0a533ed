import { formatDuration } from '../base/index.ts'
import { type Line, printable, printableLine, span, truncate } from './terminal-text.ts'

/** Longest text of an input, a reason or a note in a line. */
const SHOWN_CHARS = 200

type Event = Readonly<Record<string, unknown>>

/**
 * What an agent does, one JSON object a line as its worker wrote it, as a person reads it. A line that is none is shown as it is: nothing of a log is
 * ever left out.
 */
export function agentLines(text: string): Line[] {
  return text
    .replace(/\n$/, '')
    .split('\n')
    .flatMap((line) => {
      const event = eventIn(line)
      return event === null ? [[span(printableLine(line))]] : linesOf(event)
    })
}

/** What it is at, in a few words; null where a line says nothing of that. */
export function agentDoing(text: string): string | null {
  const events = text.trimEnd().split('\n').map(eventIn)
  for (const event of events.toReversed()) {
    const doing = event && doingOf(event)
    if (doing) return truncate(printableLine(doing), SHOWN_CHARS)
  }
  return null
}

function eventIn(line: string): Event | null {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null && 'type' in value ? (value as Event) : null
  } catch {
    return null // shown as it is
  }
}

const word = (value: unknown): string =>
  typeof value === 'string' ? value : typeof value === 'number' ? String(value) : ''
const short = (value: unknown): string =>
  truncate(printableLine(typeof value === 'string' ? value : (JSON.stringify(value) ?? '')), SHOWN_CHARS)

/** What an agent may wait for, as the log of its step names it, in words. */
const WAITS: Readonly<Record<string, string>> = {
  approvals: 'a person, about a call of a tool',
  child: 'a run below it',
  budget: 'its budget',
  outcome: 'a person, about a call whose outcome is not known',
}
const waitsFor = (on: unknown): string => `waits for ${WAITS[word(on)] ?? short(on)}`

function doingOf(event: Event): string | null {
  switch (event['type']) {
    case 'turn':
      return `turn ${word(event['turn'])}: asks ${word(event['endpoint'])}`
    case 'tool':
      return `calls ${word(event['tool'])}`
    case 'waiting':
      return waitsFor(event['on'])
    case 'handed_over':
      return `handed over to ${word(event['to'])}`
    case 'retrying':
      return `asks ${word(event['endpoint'])} again`
    default:
      return null
  }
}

function linesOf(event: Event): Line[] {
  const dim = (text: string): Line[] => [[span(text, 'dim')]]
  switch (event['type']) {
    case 'text':
      return printable(word(event['text']))
        .replace(/\n$/, '')
        .split('\n')
        .map((text): Line => [span(text)])
    case 'turn': {
      const purpose = event['purpose'] === 'turn' ? '' : ` (${word(event['purpose'])})`
      // A route has no agent: its step asks.
      const agent = event['agent'] === '' ? '' : `${short(event['agent'])} `
      return dim(`turn ${word(event['turn'])}${purpose}: ${agent}asks ${short(event['endpoint'])}`)
    }
    case 'answered': {
      const cost = typeof event['cost'] === 'number' ? `, ${event['cost']} ${word(event['currency'])}` : ''
      return dim(`${word(event['tokens'])} tokens${cost}`)
    }
    case 'tool':
      return [
        [span('→ ', 'accent'), span(`${short(event['tool'])} `), span(short(event['input'] ?? event['cut']), 'dim')],
      ]
    case 'tool_result': {
      const took = typeof event['ms'] === 'number' ? formatDuration(event['ms']) : ''
      return event['ok'] === true
        ? [[span('← ', 'accent'), span(`${short(event['tool'])} `), span(took, 'dim')]]
        : [
            [
              span('← ', 'bad'),
              span(`${short(event['tool'])} ${word(event['code'])}: `),
              span(short(event['reason']), 'dim'),
            ],
          ]
    }
    case 'failed':
      return [[span(`${short(event['endpoint'])} does not answer: ${word(event['code'])}`, 'bad')]]
    case 'retrying':
      return [[span(`${short(event['endpoint'])}: ${word(event['code'])}, asked again`, 'warn')]]
    case 'handed_over':
      return dim(`${short(event['from'])} hands over to ${short(event['to'])}`)
    case 'waiting':
      return dim(waitsFor(event['on']))
    case 'tool_log':
      return dim(`${short(event['tool'])}: ${short(event['line'])}`)
    case 'note':
      return [[span(short(event['text']), 'warn')]]
    default:
      return dim(short(JSON.stringify(event)))
  }
}
