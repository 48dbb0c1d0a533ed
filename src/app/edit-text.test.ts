import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { editText } from './edit-text.ts'

function editorOf(script: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'orrery-editor-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  const file = join(directory, 'editor.sh')
  writeFileSync(file, script)
  return `sh ${file} --wait`
}

test('the editor gets the file after its own arguments; what it saved comes back, and the file goes when it is done with', async () => {
  const EDITOR = editorOf('[ "$1" = --wait ] && echo edited >> "$2"\n')
  const edited = await editText('text\n', 'one.yaml', { EDITOR })
  expect(edited.text).toBe('text\nedited\n')
  expect(edited.file.endsWith('/one.yaml')).toBe(true)
  expect(statSync(edited.file).mode & 0o077).toBe(0)
  await edited.remove()
  expect(existsSync(edited.file)).toBe(false)
})

test('VISUAL wins over EDITOR; an editor that fails is named with the file, which is kept', async () => {
  const failure = await editText('text', 'one.yaml', { VISUAL: editorOf('exit 3'), EDITOR: 'true' }).catch(
    (error: unknown) => error,
  )
  expect(failure).toMatchObject({ code: 'editor.failed', evidence: { exit: 3 } })
  const { file } = (failure as { evidence: { file: string } }).evidence
  onTestFinished(() => rmSync(join(file, '..'), { recursive: true, force: true }))
  expect(readFileSync(file, 'utf8')).toBe('text')
})
