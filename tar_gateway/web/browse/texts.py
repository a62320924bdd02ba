"""Every English text of the page and of error pages, for who reads or translates them."""

LANGUAGE = "en"

TITLE = "Files"
WHERE = "You are here"
TOP = "Top"

# --- the table ----------------------------------------------------------------------------------

CAPTION = "Files and folders in {directory}"
SELECTED = "Selected"
NAME = "Name"
SIZE = "Size"
DATE = "Modified (UTC)"
FOLDER = "Folder"
UNKNOWN = "unknown"
EVERYTHING = "Everything here"
EMPTY = "This folder is empty."
FILTER = "Filter by name"

# --- the form -----------------------------------------------------------------------------------

HOW = "Tick what you want, then download it as one archive."
FORMAT = "Archive format"
FORMATS = {
    "zip": "zip",
    "tar": "tar",
    "tar.gz": "tar.gz (compressed)",
    "tar.zst": "tar.zst (compressed)",
}
DOWNLOAD = "Download"
SEE_ARCHIVE = "The archive is at another address."
OTHERS = "Download the others"
AGAIN = "Open the folder again"
LESS = "Select fewer files at once, or one folder after the other."

# What the script says; ``{}`` stand for numbers, sizes and names.
SCRIPT = {
    "none": HOW,
    "files": "{n} files",
    "file": "1 file",
    "folders": "{n} folders",
    "folder": "1 folder",
    "and": " and ",
    "selected": "{what} selected",
    "elsewhere": "{what} selected, {n} of them in other folders",
    "archive": "{what}: an archive of {size}",
    "atLeast": "{what}: {size}, and what is in the folders",
    "unknown": "{what}",
    "unpacked": "{what}: {size} before compression",
    "resumes": "A download that breaks off can be continued.",
    "starting": "The download is starting.",
    "lookingUp": "Looking up sizes…",
    "lookingUpSome": "Looking up sizes, {n} of {all}…",
    "allShown": "All {n} shown",
    "everything": EVERYTHING,
    "noMatch": "No name contains this text.",
    "gone": "No longer here: {n} that you had selected.",
    "tooMany": "{n} are selected, and one archive holds {most} at most. Select less, or folders.",
    "copied": "Copied",
    "failed": "The server did not answer. Check your connection, then select again.",
    "visit": "Open the folder that holds all that is selected, then download from there.",
    "more": "and {n} more",
    "entry": "1 entry",
    "entries": "{n} entries",
    "itself": "Download {name}",
    "asArchive": "As archive",
    "download": DOWNLOAD,
    "cancel": "Cancel",
    "clear": "Clear",
    "copy": "Copy",
    "command": "For the command line",
    "others": OTHERS,
    "again": AGAIN,
    "less": LESS,
}

# --- errors -------------------------------------------------------------------------------------

REQUEST = "If you report this, quote the request {id}."
BACK = "Go back to your selection with your browser's Back button: it is still there."
CHANGED_HOW = "What you had selected is selected again, as far as it is still there."
MORE = "And {count} more."
DENIED = "this folder is not shown to you"
OTHERS_HOW = "The archive then has a list of what is missing, MISSING.txt."
