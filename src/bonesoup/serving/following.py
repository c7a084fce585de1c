"""Take each new champion of the registry into service while the present version keeps answering."""

import threading
from collections.abc import Callable

from bonesoup.serving.live import Live

# Seconds between checks of the registry, and the longest pause after consecutive failures.
LOOK = 10.0
RARELY = 600.0


class Following:
    """Hold what answers now, and take a new champion of the registry into service.

    Requests that run finish on the version they began with.
    """

    def __init__(self, live: Live):
        self.live = live
        self._woken = threading.Event()
        self._stopped = False

    def follow(self, champion: Callable[[], str | None], load: Callable[[], Live], say: Callable[[str], None]) -> None:
        """Watch the registry in a separate thread, and serve a new champion.

        It looks every LOOK seconds, and whenever `look` is called.

        Args:
            champion: returns the number of the version that has the alias; None if there is none.
            load: returns the champion, ready to answer.
        """
        threading.Thread(target=self._follow, args=(champion, load, say), name="follow", daemon=True).start()

    def _follow(self, champion, load, say) -> None:
        reported, pause = None, LOOK
        while self._rest(pause):
            try:
                number = champion()
                if number is not None and number != self.live.source.version:
                    self._take(load(), say)
                reported, pause = None, LOOK
            # Whatever the error, the present version keeps answering.
            except Exception as error:
                text = f"cannot take the new champion, {self.live.source.place} stays: {error}"
                if text != reported:
                    say(text)
                # A version with broken files is downloaded again at every try.
                reported, pause = text, min(2 * pause, RARELY)

    def _rest(self, seconds: float) -> bool:
        """Wait for the next check; return False if there is to be none."""
        self._woken.wait(seconds)
        self._woken.clear()
        return not self._stopped

    def _take(self, new: Live, say: Callable[[str], None]) -> None:
        """Switch to a new version, and wait for the end of the old one, so that no third is loaded meanwhile."""
        old, self.live = self.live, new
        old.engine.close()
        say(f"now serving {new.source.place}")
        old.engine.join()

    def look(self) -> None:
        """Check the registry now instead of at the end of the interval."""
        self._woken.set()

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        self._woken.set()
