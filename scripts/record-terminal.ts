/**
 * Records what a command really writes to a terminal, and draws it.
 *   node scripts/record-terminal.ts NAME 'LINE' [--cwd DIR] [--columns N] [--rows N]   docs/assets/NAME.json and NAME.svg
 *   node scripts/record-terminal.ts NAME                                             NAME.svg anew from NAME.json
 *   --check                                                                          fails when a drawing is not that of its recording
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { drawRecording } from './terminal/draw.ts'
import { record, type Recording } from './terminal/recording.ts'

const FOLDER = join(import.meta.dirname, '..', 'docs', 'assets')
const path = (name: string, ending: string) => join(FOLDER, `${name}.${ending}`)
const read = (name: string) => JSON.parse(readFileSync(path(name, 'json'), 'utf8')) as Recording // written below
const drawingOf = (recording: Recording) => drawRecording(recording, `A terminal in which ${recording.command} runs`)

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    check: { type: 'boolean', default: false },
    cwd: { type: 'string', default: process.cwd() },
    columns: { type: 'string', default: '100' },
    rows: { type: 'string', default: '40' },
  },
})
const [name, line] = positionals

if (values.check) {
  const names = readdirSync(FOLDER).flatMap((file) => (file.endsWith('.json') ? [file.slice(0, -5)] : []))
  const stale = names.filter((one) => readFileSync(path(one, 'svg'), 'utf8') !== drawingOf(read(one)))
  if (stale.length > 0) {
    process.stderr.write(`docs/assets is stale (${stale.join(', ')}): run node scripts/record-terminal.ts NAME.\n`)
    process.exitCode = 1
  }
} else if (name === undefined) {
  process.stderr.write("Usage: node scripts/record-terminal.ts NAME ['LINE'] [--cwd DIR] [--columns N] [--rows N]\n")
  process.exitCode = 2
} else {
  const size = { columns: Number(values.columns), rows: Number(values.rows) }
  const recording = line === undefined ? read(name) : await record(line, size, values.cwd)
  if (line !== undefined) writeFileSync(path(name, 'json'), `${JSON.stringify(recording)}\n`)
  writeFileSync(path(name, 'svg'), drawingOf(recording))
}
